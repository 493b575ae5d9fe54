"""Recorded rollouts are read back without what was recorded of failures."""

from pathlib import Path
from typing import Any

import orjson

from finery.core.events import Event, validate_event
from finery.monitoring import samples
from finery.training import scoring


def recorded(folder: Path, name: str, records: list[dict[str, Any]], step: int) -> Event:
    path = folder / "samples" / f"{name}.jsonl"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"".join(orjson.dumps(record) + b"\n" for record in records))
    raw = {"type": "sample", "seq": 0, "time": 1.0, "step": step, "path": f"samples/{name}.jsonl", "offset": 0}
    return validate_event({**raw, "num_records": len(records)})


def test_completions_for_which_a_reward_failed_are_no_rollouts(tmp_path: Path) -> None:
    rollouts = recorded(tmp_path, "rollouts", [{"reward": 1.0}], step=3)
    failures = recorded(tmp_path, scoring.SAMPLES, [{"reward_error": "gave nan"}], step=4)

    page = samples.page([(1, rollouts), (1, failures)], {1: tmp_path}, None)

    assert page.steps == [3]
    assert [sample.record for sample in page.samples] == [{"reward": 1.0}]
