"""Standard output of a child: a full disk loses lines of the log, never the training."""

import io
from typing import TextIO


class PatientOutput(io.TextIOBase):
    """Passes text on and drops what the disk does not take."""

    def __init__(self, inner: TextIO):
        self._inner = inner

    def write(self, text: str) -> int:
        """Write, or lose the text."""
        try:
            return self._inner.write(text)
        except OSError:
            return len(text)

    def flush(self) -> None:
        """Flush, or lose what was buffered."""
        try:
            self._inner.flush()
        except OSError:
            return

    def isatty(self) -> bool:
        """Never: it is a file."""
        return False

    def fileno(self) -> int:
        """The descriptor, for what writes past Python."""
        return self._inner.fileno()
