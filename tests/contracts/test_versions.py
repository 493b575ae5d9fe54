"""Run directories of version 1 open in every later version. The fixture is a real run; its weights are left out."""

from pathlib import Path

from finery.core import checkpoints, rollouts, rundir
from finery.core.events import MetricsEvent, parse_event
from finery.core.gradients import FIELDS, GradientFile
from finery.core.rundir import RunDir
from finery.core.spec import parse
from finery.jobs.specs import JobSpec
from finery.jobs.tables import Attempt
from finery.monitoring import rollouts as shown

V1 = RunDir(Path(__file__).parents[1] / "fixtures" / "run_directory_v1")


def test_spec_and_job_file_open() -> None:
    spec = V1.read_spec()
    job = parse(JobSpec, spec.job)

    assert (spec.version, spec.attempt) == (1, 1)
    assert job.task.algorithm == "grpo"
    assert {found.kind for found in spec.inputs.values()} == {"file", "checkpoint"}


def test_every_event_opens() -> None:
    lines, _ = rundir.read_new_lines(V1.events / "rank0.jsonl", 0)
    events = [parse_event(line) for line in lines]

    assert {event.type for event in events} >= {"status", "metrics", "sample", "checkpoint", "artifact"}
    assert [event.seq for event in events] == list(range(len(events)))
    assert max(event.step for event in events if isinstance(event, MetricsEvent)) == 20


def test_commands_exit_supervisor_and_manifest_open() -> None:
    commands, _ = rundir.read_commands(V1.control, 0, attempt=1)
    exit_ = V1.read_exit()
    supervisor = V1.read_supervisor()
    manifest = checkpoints.read_manifest(V1.checkpoints / "step-20")

    assert commands[0].values == {"learning_rate": 1e-5}
    assert exit_ is not None
    assert exit_.code == 0
    assert supervisor is not None
    assert supervisor.child is not None
    assert manifest is not None
    assert {file.path for file in manifest.files} >= {"model.safetensors", "finery_state.pt", "optimizer.pt"}


def test_gradients_open() -> None:
    found = GradientFile.open(V1.gradients)

    assert found is not None
    assert found.layout.version == 1
    assert found.layout.fields == FIELDS
    assert found.records["step"].tolist() == [1, 10, 20]
    assert found.layout.names("group") == ["attention", "all"]
    norms = found.values("norm", "group")
    assert (norms > 0).all()
    assert (norms[:, 0] == norms[:, 1]).all()
    counts = found.histogram(2, found.layout.members("group", "all"))
    assert counts is not None
    assert counts.sum() == sum(tensor.num_values for tensor in found.layout.tensors)


def test_rollouts_open() -> None:
    """Recorded before there was an index, without row, tokens and their values."""
    groups = rollouts.open_groups(V1.samples / rollouts.LINES)
    parts = shown.history([Attempt(number=1, run_dir=str(V1.path), resumed_from=None)])

    assert groups["step"].tolist() == [step for step in range(1, 21) for _ in range(2)]
    assert set(groups["num"].tolist()) == {8}
    steps = shown.over_steps(parts, None, None, 600)
    assert (steps.first_steps, steps.num_rollouts) == (list(range(1, 21)), 320)
    page = shown.page(parts, 1, shown.Filter())
    assert (page.num_matching, page.num_unreadable, page.groups[0].prompt) == (16, 0, "What is 13 + 43?")
    one = shown.one(parts, 1, 0)
    assert (one.completion, one.tokens, one.entropy, one.kl, one.row) == ("83", None, None, None, None)
    assert shown.of_prompt(parts, page.groups[0].prompt_key, 40).steps[0].step == 1
    assert {found.verdict for found in shown.detectors(parts).detectors} <= {"clear", "found", "too_little"}
