"""Exit statuses of a child, as the supervisor writes them into exit.json."""

from typing import Final

COMPLETED: Final = 0
FAILED: Final = 1
PAUSED: Final = 3
CANCELLED: Final = 4
BUSY: Final = 5
"""Another process holds the attempt's lock."""
