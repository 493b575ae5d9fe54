"""Exit codes of `finery`, as documented in docs/guides/cli.md."""

from typing import Final

OK: Final = 0
FAILED: Final = 1
"""The job failed, or the server refused what was asked."""
USAGE: Final = 2
"""What was typed or written is wrong: unknown option, invalid job file, no such file."""
STOPPED: Final = 3
"""The job was paused or cancelled; it can be resumed."""
UNAVAILABLE: Final = 4
"""Something that is needed is not there: the server, a port, the disk, a hub."""
KILLED: Final = 130
"""Ended by a second Ctrl-C."""
