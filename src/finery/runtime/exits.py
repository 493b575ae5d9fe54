"""Exit statuses of a child, as the supervisor writes them into exit.json."""

from typing import Final

COMPLETED: Final = 0
FAILED: Final = 1
PAUSED: Final = 3
CANCELLED: Final = 4
ROLLED_BACK: Final = 6
"""Another attempt goes on from an earlier state: `carried.json` says from which."""
BUSY: Final = 5
"""Another process holds the attempt's lock."""
