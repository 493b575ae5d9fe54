"""An evaluation answers every problem once, says how it stands, stops when asked, and leaves a result."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from finery.core import checkpoints
from finery.core.errors import Conflict, InvalidSpec
from finery.core.hooks import Decision, LiveControls, StepHooks
from finery.core.rundir import ResolvedInput, Run, RunDir, RunSpec, Stopped
from finery.evaluation import results, service, statistics
from finery.evaluation.specs import EvaluateSpec

torch = pytest.importorskip("torch")

from finery.evaluation import runner  # noqa: E402 - needs torch
from finery.models import resolving  # noqa: E402
from finery.models.generation import Completion  # noqa: E402

ROWS = [{"prompt": f"{a}+{b}=", "answer": str(a + b)} for a in range(3, 16, 2) for b in range(3)]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> ResolvedInput:
    return resolving.resolve("tiny-char", home=tmp_path_factory.mktemp("home"))


class Bench:
    """A run directory with data and the tiny model."""

    def __init__(self, folder: Path, model: ResolvedInput, rows: list[dict[str, Any]]):
        self.data = folder / "rows.jsonl"
        self.data.write_text("".join(json.dumps(row) + "\n" for row in rows))
        resolved = ResolvedInput(kind="file", path=str(self.data), sha256=checkpoints.file_sha256(self.data))
        spec = RunSpec(job_id="1", attempt=1, job={}, inputs={"tiny-char": model, "sums": resolved}, seed=0)
        self.run = Run.open(RunDir.create(folder / "attempt-1", spec).path)

    def execute(self, **task: Any) -> None:
        raw = {"model": {"base": "tiny-char"}, "benchmark": {"name": "arithmetic"}, "data": "sums"} | task
        runner.execute(EvaluateSpec.model_validate(raw), self.run)

    @property
    def folder(self) -> Path:
        return self.run.dir.path

    def events(self, type_: str) -> list[dict[str, Any]]:
        lines = (self.run.dir.events / "rank0.jsonl").read_text().splitlines()
        return [event for event in map(json.loads, lines) if event["type"] == type_]


@pytest.fixture
def bench(tmp_path: Path, model: ResolvedInput) -> Bench:
    return Bench(tmp_path, model, ROWS)


class _Oracle:
    """Answers from the prompt instead of a model: right for even results."""

    def __init__(self) -> None:
        self.batches: list[int] = []

    def __call__(self, model: Any, prompts: Any, sampling: Any, **_: Any) -> list[Completion]:
        from finery.models import loading

        tokenizer = loading.load_tokenizer(Path(model.name_or_path))
        self.batches.append(len(prompts))
        made = []
        for prompt in prompts:
            left, _, right = (
                tokenizer.decode(prompt, skip_special_tokens=True).replace(" ", "").rstrip("=").partition("+")
            )
            total = int(left) + int(right)
            text = str(total) if total % 2 == 0 else "none"
            ids = tokenizer(text, add_special_tokens=False)["input_ids"]
            made.append(Completion(token_ids=[*ids, tokenizer.eos_token_id], is_finished=True))
        return made


class _Ask(StepHooks):
    """Asks for something after some batch, as a command in control.jsonl would."""

    def __init__(self, decision: Decision, after: int):
        self.decision, self.after = decision, after
        self.seen: list[int] = []

    def after_step(self, step: int, values: Mapping[str, float], controls: LiveControls) -> Decision:
        assert controls.get() == {}
        with pytest.raises(ValueError, match="no control"):
            controls.set("learning_rate", 1.0)
        self.seen.append(step)
        return self.decision if step == self.after else Decision.CONTINUE


def test_a_real_model_answers_every_problem_once(bench: Bench) -> None:
    bench.execute(max_new_tokens=4, batch_size=5)

    samples = results.read_samples(bench.folder)
    result = results.read_result(bench.folder)
    assert [sample.index for sample in samples] == list(range(len(ROWS)))
    assert [sample.prompt for sample in samples] == [row["prompt"] for row in ROWS]
    assert result.num_samples == len(ROWS)
    assert result.num_correct == sum(sample.correct for sample in samples)
    assert result.num_unfinished <= len(ROWS)


def test_the_same_evaluation_gives_the_same_answers(tmp_path: Path, model: ResolvedInput) -> None:
    answers = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        made = Bench(tmp_path / name, model, ROWS)
        made.execute(max_new_tokens=4, batch_size=64)
        answers.append([sample.completion for sample in results.read_samples(made.folder)])

    assert answers[0] == answers[1]


def test_the_score_is_what_the_answers_deserve(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "generate", _Oracle())

    bench.execute(batch_size=8)

    expected = sum(int(row["answer"]) % 2 == 0 for row in ROWS)
    score = service.read_score(bench.folder, job_id=1, job_name="x")
    assert score.num_correct == expected
    assert score.accuracy == expected / len(ROWS)
    assert score.interval == statistics.wilson(expected, len(ROWS))
    wrong, num_wrong = service.read_samples(bench.folder, offset=0, limit=1, only="wrong")
    assert num_wrong == len(ROWS) - expected
    assert (wrong[0].completion, wrong[0].answer) == ("none", None)


def test_how_it_stands_is_logged_after_each_batch(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    oracle = _Oracle()
    monkeypatch.setattr(runner, "generate", oracle)
    hook = _Ask(Decision.CHECKPOINT, after=1)
    bench.run.hooks.append(hook)

    bench.execute(batch_size=8)

    metrics = bench.events("metrics")
    assert oracle.batches == [8, 8, 5]
    assert hook.seen == [1, 2, 3]
    assert [event["step"] for event in metrics] == [1, 2, 3, 3]
    assert [event["values"]["evaluated"] for event in metrics[:3]] == [8, 16, 21]
    final = {name: value for event in metrics for name, value in event["values"].items()}
    assert final["accuracy_low"] <= final["accuracy"] <= final["accuracy_high"]
    assert final["num_samples"] == 21
    assert bench.events("status")[0]["total_steps"] == 3
    assert [event["num_records"] for event in bench.events("sample")] == [8, 8, 5]
    assert bench.events("artifact")[0]["path"] == "result.json"


@pytest.mark.parametrize("decision", [Decision.PAUSE, Decision.CANCEL])
def test_a_request_to_stop_ends_it_between_batches_and_keeps_what_is_done(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, decision: Decision
) -> None:
    monkeypatch.setattr(runner, "generate", _Oracle())
    bench.run.hooks.append(_Ask(decision, after=2))

    with pytest.raises(Stopped) as stopped:
        bench.execute(batch_size=8)

    assert stopped.value.decision is decision
    assert service.read_samples(bench.folder, offset=0, limit=99, only="all")[1] == 16
    assert not (bench.folder / "result.json").exists()


def test_a_signal_before_the_first_batch_ends_it_too(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    oracle = _Oracle()
    monkeypatch.setattr(runner, "generate", oracle)
    bench.run.request_stop(Decision.PAUSE)

    with pytest.raises(Stopped):
        bench.execute()

    assert oracle.batches == []


def test_a_request_that_comes_with_the_last_batch_comes_too_late(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "generate", _Oracle())
    bench.run.hooks.append(_Ask(Decision.CANCEL, after=3))

    bench.execute(batch_size=8)

    assert results.read_result(bench.folder).num_samples == len(ROWS)


def test_only_the_first_problems_are_answered_when_that_is_asked_for(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "generate", _Oracle())

    bench.execute(limit=4)

    assert [sample.index for sample in results.read_samples(bench.folder)] == [0, 1, 2, 3]


def test_messages_are_shown_as_text(tmp_path: Path, model: ResolvedInput) -> None:
    turns = [{"role": "system", "content": "s"}, {"role": "user", "content": "1+1="}]
    bench = Bench(tmp_path, model, [{"prompt": turns, "answer": "2"}, {"prompt": turns[1:], "answer": "2"}])

    bench.execute(max_new_tokens=2)

    assert [sample.prompt for sample in results.read_samples(bench.folder)] == ["system: s\nuser: 1+1=", "1+1="]


def test_data_that_changed_since_the_submit_is_refused(bench: Bench) -> None:
    bench.data.write_text('{"prompt": "1+1=", "answer": "3"}\n')

    with pytest.raises(Conflict, match="has changed since"):
        bench.execute()


def test_a_prompt_that_the_model_cannot_take_is_named(tmp_path: Path, model: ResolvedInput) -> None:
    bench = Bench(tmp_path, model, [ROWS[0], {"prompt": "1+" * 300, "answer": "1"}])

    with pytest.raises(InvalidSpec, match="problem 1 has 6.. tokens"):
        bench.execute()


def test_a_dataset_without_problems_is_refused(tmp_path: Path, model: ResolvedInput) -> None:
    with pytest.raises(InvalidSpec, match="has no problems"):
        Bench(tmp_path, model, []).execute()
