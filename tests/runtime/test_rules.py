"""What rules ask for is carried out between two steps, told, and handed on to the next attempt."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from finery.core import checkpoints
from finery.core.carried import Carried, LiveSet, RolledBack, to_apply, without_batches
from finery.core.hooks import Decision
from finery.core.rundir import Command, Run, RunDir, RunSpec, append_line
from finery.core.spec import parse
from finery.jobs.specs import JobSpec
from finery.runtime.rules import RuleExhausted, RuleHooks, attach

NAN = float("nan")


class Engine:
    """The live settings of an engine whose learning rate follows a schedule."""

    def __init__(self, **values: float):
        self.values = {"learning_rate": 1e-3, "entropy_coef": 0.0, **values}

    def get(self) -> Mapping[str, float]:
        return dict(self.values)

    def set(self, name: str, value: float) -> None:
        if name == "kl_coef":
            raise ValueError("no reference model is loaded")
        self.values[name] = value

    def scale(self, name: str, factor: float) -> None:
        self.values[name] *= factor


class Bench:
    """An attempt whose steps are made by hand."""

    def __init__(
        self,
        folder: Path,
        rules: list[dict[str, Any]],
        *,
        number: int = 1,
        carried: Carried | None = None,
        resume_from: Path | None = None,
        **task: Any,
    ):
        job = {
            "name": "test",
            "kind": "train",
            "task": {"algorithm": "sft", "model": {"base": "tiny-char"}, "data": {"train": "rows"}, **task},
            "monitoring": {"rules": rules},
        }
        spec = parse(JobSpec, job)
        written = RunSpec(
            job_id="1",
            attempt=number,
            job=spec.model_dump(mode="json"),
            inputs={},
            seed=1,
            carried=carried or Carried(),
            resume_from=str(resume_from) if resume_from else None,
        )
        self.dir = RunDir.create(folder / f"attempt-{number}", written)
        self.run = Run.open(self.dir.path)
        self.engine = Engine()
        self.hooks: RuleHooks = attach(self.run, spec)

    def begin(self, step: int = 0) -> None:
        self.run.before_training(step, self.engine)

    def step(self, step: int, **values: float) -> Decision:
        return self.run.after_step(step, values, self.engine)

    def save(self, step: int) -> Path:
        path = checkpoints.directory(self.dir.checkpoints, step)
        path.mkdir(parents=True)
        (path / "weights").write_bytes(b"w" * step)
        self.run.checkpoint(path, engine="trl", format="hf-trainer", step=step, keep=None)
        return path

    def events(self, type_: str) -> list[dict[str, Any]]:
        lines = (self.dir.events / "rank0.jsonl").read_text().splitlines()
        return [event for event in map(json.loads, lines) if event["type"] == type_]

    def story(self) -> list[tuple[str, str, str]]:
        return [(event["rule"], event["action"], event["outcome"]) for event in self.events("action")]


def rule(name: str, when: str, *then: Any, **fields: Any) -> dict[str, Any]:
    return {"name": name, "when": when, "then": list(then), "cooldown_steps": 1, **fields}


BACK = rule("bad", "isnan(loss)", "rollback_checkpoint", max_count=2)


def test_a_change_is_told_with_before_and_after_and_carried_to_the_next_attempt(tmp_path: Path) -> None:
    bench = Bench(tmp_path, [rule("drift", "kl > 0.2", {"name": "reduce_lr", "params": {"factor": 0.5}})])
    bench.begin()

    assert bench.step(1, kl_divergence=0.3) is Decision.CONTINUE

    [action] = bench.events("action")
    assert (action["before"], action["after"]) == ({"learning_rate": 1e-3}, {"learning_rate": 5e-4})
    assert [event["values"]["learning_rate"] for event in bench.events("controls")] == [1e-3, 5e-4]
    carried = bench.dir.read_carried()
    assert carried.sets == (LiveSet(step=1, name="learning_rate", before=1e-3, after=5e-4, by="rule drift"),)
    assert carried.rules["drift"]["count"] == 1


def test_changes_by_hand_are_carried_too(tmp_path: Path) -> None:
    bench = Bench(tmp_path, [])
    bench.begin()
    record = Command(id="request-7", attempt=1, time=0.0, command="set", values={"entropy_coef": 0.01})
    append_line(bench.dir.control, record.model_dump())

    bench.step(4, loss=1.0)

    [one] = bench.dir.read_carried().sets
    assert (one.step, one.name, one.before, one.after, one.by) == (4, "entropy_coef", 0.0, 0.01, "command request-7")


def test_after_a_restore_what_the_checkpoint_does_not_contain_is_set_again(tmp_path: Path) -> None:
    sets = (
        LiveSet(step=3, name="entropy_coef", before=0.0, after=0.5, by="rule a"),
        LiveSet(step=8, name="learning_rate", before=4e-3, after=1e-3, by="rule b"),
        LiveSet(step=9, name="entropy_coef", before=0.5, after=0.7, by="rule a"),
        LiveSet(step=9, name="kl_coef", before=0.1, after=0.2, by="rule c"),
    )
    bench = Bench(tmp_path, [], number=2, carried=Carried(sets=sets))
    bench.engine.values |= {"learning_rate": 2e-3, "entropy_coef": 0.5}

    bench.begin(step=5)

    assert bench.engine.get() == {"learning_rate": 5e-4, "entropy_coef": 0.7}
    notes = [event["message"] for event in bench.events("log")]
    assert any("kl_coef was not set" in note for note in notes)
    handed_on = bench.hooks.carrying.carried.sets
    assert [(one.step, one.name) for one in handed_on] == [
        (3, "entropy_coef"),
        (6, "learning_rate"),
        (6, "entropy_coef"),
    ]
    assert to_apply(handed_on, 5) == list(handed_on[1:])
    assert to_apply(handed_on, 6) == []


def test_going_back_names_the_newest_good_checkpoint_before_the_alert(tmp_path: Path) -> None:
    bench = Bench(tmp_path, [BACK])
    bench.begin()
    target, broken = bench.save(4), bench.save(6)
    (broken / "weights").write_bytes(b"x")

    assert bench.step(7, loss=NAN) is Decision.ROLLBACK
    bench.save(7)
    bench.hooks.confirm_rollback()

    carried = bench.dir.read_carried()
    [story] = carried.rollbacks
    assert (story.rule, story.attempt, story.step, story.to_step) == ("bad", 1, 7, 4)
    assert (story.checkpoint, story.saved) == (str(target), str(checkpoints.directory(bench.dir.checkpoints, 7)))
    assert carried.skipped_steps == (7,)
    assert any("step 6 is not gone back to" in event["message"] for event in bench.events("log"))


def test_with_no_good_checkpoint_left_it_goes_back_to_the_beginning(tmp_path: Path) -> None:
    bench = Bench(tmp_path, [BACK])
    bench.begin()
    (bench.save(4) / "weights").unlink()

    assert bench.step(7, loss=NAN) is Decision.ROLLBACK
    bench.hooks.confirm_rollback()

    [story] = bench.dir.read_carried().rollbacks
    assert (story.to_step, story.checkpoint, story.saved) == (0, None, None)
    assert "the beginning, since there is no good checkpoint" in bench.events("action")[0]["message"]


def test_it_may_go_back_to_the_checkpoint_that_the_attempt_began_from(tmp_path: Path) -> None:
    origin = Bench(tmp_path, []).save(10)
    bench = Bench(tmp_path, [BACK], number=2, resume_from=origin)
    bench.begin(step=10)

    bench.step(12, loss=NAN)
    bench.hooks.confirm_rollback()

    assert bench.dir.read_carried().rollbacks[0].checkpoint == str(origin)


def test_a_checkpoint_between_two_steps_of_the_bad_batch_is_passed_over(tmp_path: Path) -> None:
    """It holds the rollouts of the batch that is to be left out."""
    bench = Bench(
        tmp_path,
        [BACK],
        algorithm="grpo",
        num_iterations=4,
        rewards=["exact"],
    )
    bench.begin()
    bench.save(4)
    bench.save(6)

    bench.step(7, loss=NAN)
    bench.hooks.confirm_rollback()

    assert bench.dir.read_carried().rollbacks[0].to_step == 4


def test_going_back_in_vain_fails_the_run(tmp_path: Path) -> None:
    carried = Carried()
    for number in (1, 2):
        bench = Bench(tmp_path, [BACK], number=number, carried=carried)
        bench.begin()
        assert bench.step(3, loss=NAN) is Decision.ROLLBACK
        bench.hooks.confirm_rollback()
        carried = bench.dir.read_carried()
    bench = Bench(tmp_path, [BACK], number=3, carried=carried)
    bench.begin()

    with pytest.raises(RuleExhausted, match="gone back 2 times"):
        bench.step(3, loss=NAN)

    assert bench.story() == [("bad", "rollback_checkpoint", "applied")]
    assert carried.skipped_steps == (3, 3)


def test_of_opposite_actions_the_first_rule_wins_and_the_other_is_told_so(tmp_path: Path) -> None:
    rules = [
        rule("down", "loss > 1", {"name": "set", "params": {"control": "entropy_coef", "value": 0.1}}),
        rule("up", "loss > 1", {"name": "set", "params": {"control": "entropy_coef", "value": 0.9}}),
    ]
    bench = Bench(tmp_path, rules)
    bench.begin()

    bench.step(1, loss=2.0)

    assert bench.engine.values["entropy_coef"] == 0.1
    assert bench.story() == [("down", "set", "applied"), ("up", "set", "refused")]
    assert "rule down has changed entropy_coef" in bench.events("action")[1]["message"]


def test_going_back_comes_before_stopping_and_stopping_before_pausing(tmp_path: Path) -> None:
    rules = [rule("pause", "loss > 1", "pause_training"), rule("stop", "loss > 1", "stop")]
    bench = Bench(tmp_path / "two", rules)
    bench.begin()
    assert bench.step(1, loss=2.0) is Decision.CANCEL
    assert bench.hooks.decided[1].startswith("rule stop: loss > 1")
    assert bench.story() == [("pause", "pause_training", "refused"), ("stop", "stop", "applied")]

    bench = Bench(tmp_path / "three", [*rules, rule("back", "loss > 1", "rollback_checkpoint")])
    bench.begin()
    assert bench.step(1, loss=2.0) is Decision.ROLLBACK
    assert [outcome for _, _, outcome in bench.story()] == ["refused", "refused", "asked"]


def test_in_a_storm_of_alerts_the_first_act_and_all_are_recorded(tmp_path: Path) -> None:
    bench = Bench(tmp_path, [rule(f"rule_{number}", "loss > 1", "notify") for number in range(20)])
    bench.begin()

    bench.step(1, loss=2.0)

    assert len(bench.events("alert")) == 20
    assert len(bench.events("action")) == 5


def test_an_action_that_the_engine_cannot_take_is_told_and_changes_nothing(tmp_path: Path) -> None:
    rules = [rule("no", "loss > 1", {"name": "set", "params": {"control": "temperature", "value": 1}})]
    bench = Bench(tmp_path, rules)
    bench.begin()

    assert bench.step(1, loss=2.0) is Decision.CONTINUE

    [action] = bench.events("action")
    assert action["outcome"] == "refused"
    assert "no live setting temperature" in action["message"]
    assert bench.dir.read_carried().sets == ()


def test_a_rollback_that_arrived_is_told_by_the_next_attempt(tmp_path: Path) -> None:
    story = RolledBack(rule="bad", message="", attempt=1, step=7, to_step=4, checkpoint=None, saved=None)
    bench = Bench(tmp_path, [], number=2, carried=Carried(rollbacks=(story,)))
    bench.begin(step=4)

    [action] = bench.events("action")
    assert (action["outcome"], action["before"], action["after"]) == ("applied", {"step": 7}, {"step": 4})

    later = Bench(tmp_path, [], number=3, carried=Carried(rollbacks=(story,)))
    later.begin(step=6)
    assert later.events("action") == []


def test_batches_are_left_out_one_after_the_other() -> None:
    visits = list(range(12))

    assert without_batches(visits, (), size=2, steps_per_batch=1) == visits
    assert without_batches(visits, (2,), size=2, steps_per_batch=1) == [0, 1, 4, 5, 6, 7, 8, 9, 10, 11]
    # The second counts in what the first has left: the same step again is the batch that came in its place.
    assert without_batches(visits, (2, 2), size=2, steps_per_batch=1) == [0, 1, 6, 7, 8, 9, 10, 11]
    assert without_batches(visits, (5,), size=2, steps_per_batch=4) == [0, 1, 4, 5, 6, 7, 8, 9, 10, 11]


def test_rows_that_were_left_out_do_not_come_again_in_later_passes() -> None:
    visits = [0, 1, 2, 3, 3, 1, 0, 2]

    assert without_batches(visits, (2,), size=2, steps_per_batch=1) == [0, 1, 1, 0]
    assert without_batches(visits, (1, 1), size=2, steps_per_batch=1) == [3, 2]  # else nothing would be left
