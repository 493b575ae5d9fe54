"""What counts as solving a problem."""

import json
from pathlib import Path
from typing import Any

import pytest

from finery.core.errors import InvalidSpec
from finery.evaluation import benchmarks, service
from finery.evaluation.benchmarks import Benchmark, Sample
from finery.evaluation.specs import EvaluateSpec


def _benchmark(name: str, **params: Any) -> Benchmark:
    return benchmarks.registry.get(name).target(benchmarks.registry.params(name, params))


@pytest.mark.parametrize(
    ("completion", "answer", "correct"),
    [
        ("17", "17", True),
        ("12 + 5 = 17.", "17", True),
        ("The answer is 17 apples", "17", True),
        ("17.0", "17.0", True),
        ("first 17, then 18", "18", False),
        ("-17", "-17", False),
        ("\u7b54\u6848\u662f17\u3002", "17", True),
        ("no idea", None, False),
        ("", None, False),
        ("9**9**9", "9", False),
    ],
)
def test_arithmetic_looks_at_the_last_number(completion: str, answer: str | None, correct: bool) -> None:
    score = _benchmark("arithmetic").score(Sample(0, "12 + 5?", "17"), completion)

    assert (score.answer, score.correct) == (answer, correct)


@pytest.mark.parametrize(
    ("completion", "target", "correct"),
    [
        ("so \\boxed{\\frac{1}{2}}", "0.5", True),
        ("the answer is 3, not 4", "3", True),
        ("#### 1,234", "1234", True),
        ("\\boxed{2\\sqrt{2}}", "\\sqrt{8}", True),
        ("\\boxed{2\\sqrt{2}}", "3", False),
        ("no idea", "3", False),
    ],
)
def test_math_compares_the_marked_answer_symbolically(completion: str, target: str, correct: bool) -> None:
    assert _benchmark("math").score(Sample(0, "?", target), completion).correct is correct


def test_samples_are_the_rows_of_the_dataset_in_order(tmp_path: Path) -> None:
    rows = [{"prompt": "a", "answer": "1"}, {"prompt": [{"role": "user", "content": "b"}], "answer": "2"}]
    (tmp_path / "rows").write_text("".join(json.dumps(row) + "\n" for row in rows))

    found = list(_benchmark("arithmetic").samples(tmp_path / "rows"))

    assert found == [Sample(0, "a", "1"), Sample(1, [{"role": "user", "content": "b"}], "2")]


def test_every_benchmark_has_a_summary_and_defaults() -> None:
    names = [entry.name for entry in benchmarks.registry.all()]

    assert names == ["arithmetic", "math"]
    for entry in benchmarks.registry.all():
        assert entry.summary
        _benchmark(entry.name)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"data": None}, "needs task.data"),
        ({"benchmark": {"name": "nothing"}}, "known: arithmetic, math"),
        ({"benchmark": {"name": "arithmetic", "params": {"x": 1}}}, "unknown key"),
    ],
)
def test_a_task_that_cannot_run_is_refused_before_it_does(change: dict[str, Any], reason: str) -> None:
    raw = {"model": {"base": "tiny-char"}, "benchmark": {"name": "arithmetic"}, "data": "sums"}
    service.check(EvaluateSpec.model_validate(raw))

    with pytest.raises(InvalidSpec, match=reason):
        service.check(EvaluateSpec.model_validate(raw | change))


def test_an_evaluation_has_no_adapter_to_train() -> None:
    raw = {"model": {"base": "tiny-char", "lora": {}}, "benchmark": {"name": "arithmetic"}, "data": "sums"}

    with pytest.raises(ValueError, match="trains nothing"):
        EvaluateSpec.model_validate(raw)
