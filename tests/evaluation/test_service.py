"""Scores, samples and comparisons are read from what evaluations leave behind."""

from pathlib import Path
from typing import Any

import orjson
import pytest

from finery.core.errors import Conflict, NotFound
from finery.evaluation import results, service, statistics
from finery.evaluation.results import StoredResult
from finery.evaluation.specs import ScoreView


def _attempt(folder: Path, outcomes: dict[int, bool], *, prompt: str = "p", **result: Any) -> Path:
    """An attempt that answered the problems of `outcomes`, in the order given."""
    (folder / "samples").mkdir(parents=True)
    lines = [
        {
            "index": index,
            "prompt": f"{prompt}{index}",
            "target": "1",
            "completion": "1" if correct else "",
            "answer": "1" if correct else None,
            "correct": correct,
        }
        for index, correct in outcomes.items()
    ]
    (folder / "samples" / "evaluation.jsonl").write_bytes(b"".join(orjson.dumps(line) + b"\n" for line in lines))
    num_correct = sum(outcomes.values())
    stored = {
        "benchmark": "arithmetic",
        "params": {},
        "model": "tiny-char",
        "data": "sums",
        "data_sha256": "0" * 64,
        "num_samples": len(outcomes),
        "num_correct": num_correct,
        "num_unfinished": 0,
        "accuracy": num_correct / max(1, len(outcomes)),
        "interval": statistics.wilson(num_correct, len(outcomes)),
    }
    results.write_result(folder, StoredResult(**(stored | result)))
    return folder


def _score(folder: Path, job_id: int = 1) -> ScoreView:
    return service.read_score(folder, job_id=job_id, job_name=f"job-{job_id}")


def test_a_score_is_read_from_its_result(tmp_path: Path) -> None:
    score = _score(_attempt(tmp_path / "a", {0: True, 1: False}), 7)

    assert (score.job_id, score.job_name, score.model) == (7, "job-7", "tiny-char")
    assert (score.num_samples, score.num_correct, score.accuracy) == (2, 1, 0.5)
    assert score.interval == statistics.wilson(1, 2)


def test_an_evaluation_that_is_not_complete_has_no_score(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no result yet"):
        _score(tmp_path)


def test_samples_come_by_index_and_can_be_narrowed(tmp_path: Path) -> None:
    folder = _attempt(tmp_path / "a", {3: True, 0: False, 2: True, 1: False})

    everything, total = service.read_samples(folder, offset=0, limit=10, only="all")
    wrong, num_wrong = service.read_samples(folder, offset=1, limit=10, only="wrong")
    right, num_right = service.read_samples(folder, offset=0, limit=1, only="right")

    assert ([sample.index for sample in everything], total) == ([0, 1, 2, 3], 4)
    assert ([sample.index for sample in wrong], num_wrong) == ([1], 2)
    assert ([sample.index for sample in right], num_right) == ([2], 2)


def test_samples_are_shown_while_the_last_line_is_still_being_written(tmp_path: Path) -> None:
    folder = _attempt(tmp_path / "a", {0: True, 1: True})
    file = folder / "samples" / "evaluation.jsonl"
    file.write_bytes(file.read_bytes()[:-5])

    assert service.read_samples(folder, offset=0, limit=10, only="all")[1] == 1
    assert service.read_samples(tmp_path / "none", offset=0, limit=10, only="all") == ([], 0)


def test_a_problem_that_was_written_twice_counts_once(tmp_path: Path) -> None:
    folder = _attempt(tmp_path / "a", {0: True, 1: True})
    file = folder / "samples" / "evaluation.jsonl"
    file.write_bytes(file.read_bytes() * 2)

    assert service.read_samples(folder, offset=0, limit=10, only="all")[1] == 2
    assert service.compare(folder, folder, baseline=_score(folder), candidate=_score(folder)).num_shared == 2


def test_a_comparison_pairs_problems_by_index(tmp_path: Path) -> None:
    baseline = _attempt(tmp_path / "a", {0: True, 1: True, 2: False, 3: False, 4: False, 9: True})
    candidate = _attempt(tmp_path / "b", {4: True, 3: True, 2: False, 1: False, 0: True, 8: True})

    found = service.compare(baseline, candidate, baseline=_score(baseline), candidate=_score(candidate, 2))

    assert found.num_shared == 5
    assert (found.both_correct, found.both_wrong, found.improved, found.regressed) == (1, 1, 2, 1)
    assert found.difference == pytest.approx(0.2)
    assert found.p_value == statistics.mcnemar_exact(2, 1)
    assert found.difference_interval == statistics.paired_difference(statistics.PairedCounts(1, 2, 1, 1))
    assert found.candidate.job_id == 2


@pytest.mark.parametrize(
    ("outcomes", "more", "reason"),
    [
        ({0: True}, {"prompt": "q"}, "problem 0 is not the same"),
        ({5: True}, {}, "share no problem"),
        ({0: True}, {"benchmark": "math"}, "different benchmarks"),
        ({0: True}, {"params": {"x": 1}}, "different benchmarks"),
    ],
)
def test_evaluations_of_different_problems_are_not_compared(
    tmp_path: Path, outcomes: dict[int, bool], more: dict[str, Any], reason: str
) -> None:
    baseline = _attempt(tmp_path / "a", {0: True, 1: True})
    candidate = _attempt(tmp_path / "b", outcomes, **more)

    with pytest.raises(Conflict, match=reason):
        service.compare(baseline, candidate, baseline=_score(baseline), candidate=_score(candidate))
