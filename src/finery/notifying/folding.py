"""What goes as a message of its own and what is folded into one, so that a storm stays readable. Pure.

In any minute a channel gets at most PER_RUN messages of one run and PER_CHANNEL of all. The last message that a run
may send holds everything else that waits of that run ("and 14 more"); what comes later waits for room, and is then
folded in the same way.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

WINDOW: Final = timedelta(minutes=1)
PER_RUN: Final = 5
PER_CHANNEL: Final = 15
"""DingTalk refuses all for ten minutes after 20 in one, Feishu takes 100."""


@dataclass(frozen=True)
class Waiting:
    """A delivery that is in no message yet."""

    id: int
    run: str


def plan(waiting: Sequence[Waiting], planned: Mapping[str, int]) -> list[list[int]]:
    """Deliveries by message, in the order in which the messages go. What is in none waits.

    Args:
        waiting: Of one channel, oldest first.
        planned: Run -> its messages of the last minute, for this channel.
    """
    room = PER_CHANNEL - sum(planned.values())
    by_run: dict[str, list[int]] = {}
    for item in waiting:
        by_run.setdefault(item.run, []).append(item.id)
    messages = [
        message for run, ids in by_run.items() for message in _of_run(ids, min(room, PER_RUN - planned.get(run, 0)))
    ]
    return sorted(messages)[: max(room, 0)]


def _of_run(ids: Sequence[int], room: int) -> list[list[int]]:
    if room <= 0:
        return []
    alone = len(ids) if len(ids) <= room else room - 1
    rest = list(ids[alone:])
    return [[one] for one in ids[:alone]] + ([rest] if rest else [])
