"""Reads recorded rollouts back from the files that sample events point at. No session."""

from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path

import orjson

from finery.core.events import Event, SampleEvent
from finery.core.paths import resolve_inside
from finery.monitoring.specs import SampleRecord, SampleRecordPage
from finery.training import scoring

_MAX_RECORDS = 500


def page(found: Sequence[tuple[int, Event]], folders: Mapping[int, Path], step: int | None) -> SampleRecordPage:
    """The records of one step, without those of completions for which a reward failed: alerts tell of them.

    Args:
        found: (attempt, sample event), oldest first.
        folders: Run directory of each attempt.
        step: None takes the newest step that has samples.
    """
    events = [
        (attempt, event)
        for attempt, event in found
        if isinstance(event, SampleEvent) and Path(event.path).stem != scoring.SAMPLES
    ]
    steps = sorted({event.step for _, event in events})
    if not steps:
        return SampleRecordPage(steps=[], samples=[])
    wanted = steps[-1] if step is None else step
    records = [
        record
        for attempt, event in events
        if event.step == wanted and attempt in folders
        for record in _read(folders[attempt], attempt, event)
    ]
    return SampleRecordPage(steps=steps, samples=records[-_MAX_RECORDS:])


def _read(folder: Path, attempt: int, event: SampleEvent) -> list[SampleRecord]:
    path = resolve_inside(folder, event.path)
    try:
        with open(path, "rb") as file:
            file.seek(event.offset)
            lines = list(islice(file, event.num_records))
    except FileNotFoundError:
        return []
    found = []
    for line in lines:
        try:
            found.append(SampleRecord(attempt=attempt, step=event.step, record=orjson.loads(line)))
        except orjson.JSONDecodeError:
            continue
    return found
