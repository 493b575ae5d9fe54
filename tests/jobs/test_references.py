"""What a job file names is found wherever it stands, and resolved before the job is queued."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from finery.core.clock import FakeClock
from finery.core.db import Database
from finery.core.errors import Forbidden, InvalidSpec, NotFound
from finery.core.objects import ObjectStore
from finery.core.secrets import SecretStore
from finery.core.settings import Settings
from finery.core.spec import parse
from finery.jobs import references, rehearsing, submitting
from finery.jobs.resolving import Resolver, job_secrets
from finery.jobs.specs import JobSpec, PipelineSpec
from finery.jobs.tables import Job
from finery.worker.loop import Worker

NOW = datetime(2026, 1, 1, tzinfo=UTC)
CODE = "def reward(prompts, completions, **columns):\n    return [0.0] * len(completions)\n"
OPEN_WALLS = {"name": "code_tests", "params": {"sandbox": "any"}}
JUDGE = {"name": "llm_judge", "params": {"base_url": "http://localhost/v1", "model": "m", "api_key": "JUDGE_KEY"}}


def job(rewards: Any, *, name: str = "aligned", base: str = "tiny-char", data: str = "./rows.jsonl") -> dict[str, Any]:
    return {
        "name": name,
        "kind": "train",
        "task": {"algorithm": "grpo", "model": {"base": base}, "data": {"train": data}, "rewards": rewards},
    }


def scored_by(model: str) -> list[dict[str, Any]]:
    return [{"name": "exact"}, {"name": "reward_model", "params": {"model": model}}]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "rows.jsonl").write_text('{"prompt": "1+1=", "answer": "2"}\n')
    (tmp_path / "reward.py").write_text(CODE)
    return tmp_path


def resolver(db: Database, home: Path, **settings: Any) -> Resolver:
    made = Settings(home=home, **settings)
    return Resolver(db, ObjectStore(made.objects), made)


def spec(raw: dict[str, Any], home: Path) -> JobSpec:
    """As `finery run` makes it: with absolute paths."""

    def absolute(found: references.Reference) -> str:
        return str(home / found.text) if found.text.startswith("./") else found.text

    made: JobSpec = parse(JobSpec, references.replaced(raw, absolute))
    return made


def test_every_reference_is_found_with_its_place() -> None:
    rewards = [*scored_by("job:3/last"), {"name": "python_file", "params": {"path": "./reward.py"}}, JUDGE]

    found = [(one.dotted, one.kind, one.text) for one in references.find(job(rewards))]

    assert found == [
        ("task.model.base", "model", "tiny-char"),
        ("task.data.train", "data", "./rows.jsonl"),
        ("task.rewards.1.params.model", "model", "job:3/last"),
        ("task.rewards.2.params.path", "code", "./reward.py"),
        ("task.rewards.3.params.api_key", "secret", "JUDGE_KEY"),
    ]


@pytest.mark.parametrize("rewards", ["exact,format", ["exact"], [{"name": "nothing", "params": {"model": "x"}}], None])
def test_a_sparse_job_file_is_read_as_it_is(rewards: Any) -> None:
    assert [one.kind for one in references.find(job(rewards))] == ["model", "data"]


def test_what_is_replaced_leaves_the_original_alone() -> None:
    raw = job(scored_by("a"))

    made = references.replaced(raw, lambda found: found.text.upper())

    assert made["task"]["rewards"][1]["params"]["model"] == "A"
    assert raw == job(scored_by("a"))


def test_code_is_kept_by_its_content(db: Database, home: Path) -> None:
    raw = job([{"name": "python_file", "params": {"path": "./reward.py"}}])

    inputs = resolver(db, home).inputs(spec(raw, home), allow_paths=True)

    found = inputs[str(home / "reward.py")]
    (home / "reward.py").write_text("changed")
    assert Path(found.path).read_text() == CODE
    assert Path(found.path).is_relative_to(home / "objects")


def test_a_server_reads_no_code_of_its_own_by_path(db: Database, home: Path) -> None:
    raw = job([{"name": "python_file", "params": {"path": str(home / "reward.py")}}], data="sums@1")
    made: JobSpec = parse(JobSpec, raw)
    [named] = [one for one in references.find(raw) if one.kind == "code"]

    with pytest.raises(InvalidSpec, match="is a path of the machine where the job file was written"):
        resolver(db, home).input(named, (), allow_paths=False)
    with pytest.raises(NotFound):
        resolver(db, home).inputs(made, allow_paths=False)


def test_uploaded_code_is_named_by_its_hash(db: Database, home: Path) -> None:
    stored = ObjectStore(home / "objects").put_bytes(CODE.encode())
    raw = job([{"name": "python_file", "params": {"path": f"object:{stored.sha256}"}}])
    [named] = [one for one in references.find(raw) if one.kind == "code"]

    found = resolver(db, home).input(named, (), allow_paths=False)

    assert (Path(found.path).read_text(), found.sha256) == (CODE, stored.sha256)


def test_code_is_refused_where_the_installation_runs_none(db: Database, home: Path) -> None:
    raw = job([{"name": "python_file", "params": {"path": "./reward.py"}}])

    with pytest.raises(Forbidden, match="FINERY_ALLOW_CODE is off"):
        resolver(db, home, allow_code=False).inputs(spec(raw, home), allow_paths=True)


@pytest.mark.parametrize("algorithm", ["grpo", "compare"])
def test_code_of_a_model_without_full_walls_is_refused_where_the_installation_runs_none(
    db: Database, home: Path, algorithm: str
) -> None:
    raw = job([{"name": "exact"}, OPEN_WALLS])
    if algorithm == "compare":
        task = {"model": {"base": "tiny-char"}, "candidates": {"a": "tiny-char"}, "data": "./rows.jsonl"}
        raw = {"name": "table", "kind": "compare", "task": {**task, "rewards": raw["task"]["rewards"]}}
    careful = resolver(db, home, allow_code=False)

    with pytest.raises(Forbidden, match=r"task\.rewards\.1: code_tests with `sandbox: any`.*FINERY_ALLOW_CODE is off"):
        careful.inputs(spec(raw, home), allow_paths=True)

    assert resolver(db, home).inputs(spec(raw, home), allow_paths=True)
    raw["task"]["rewards"] = [{"name": "code_tests"}]
    assert careful.inputs(spec(raw, home), allow_paths=True)


@pytest.mark.parametrize("reward", [{"name": "python_file", "params": {"path": "./reward.py"}}, OPEN_WALLS])
def test_code_that_was_taken_is_not_started_once_the_installation_runs_none(
    db: Database, home: Path, reward: dict[str, Any]
) -> None:
    made = spec(job([reward]), home)
    inputs = resolver(db, home).inputs(made, allow_paths=True)
    with db.session() as session:
        job_id = submitting.submit(session, made, inputs=inputs, code=None, now=NOW).id

    worker = Worker(db, Settings(home=home, allow_code=False), FakeClock())
    worker.tick()
    worker.close()

    with db.read() as session:
        row = session.get_one(Job, job_id)
    assert (row.state, row.attempt) == ("failed", 0)
    assert "FINERY_ALLOW_CODE is off" in row.cause


@pytest.mark.parametrize("after", ["\u00b2", "\u0661", "99999999999999999999", "1" * 10, "-1", "", "first"])
def test_what_is_no_id_is_no_job_to_wait_for(db: Database, after: str) -> None:
    made: JobSpec = parse(JobSpec, {**job("exact"), "after": [after]})

    with db.session() as session, pytest.raises(InvalidSpec, match="is no job id"):
        submitting.submit(session, made, inputs={}, code=None, now=NOW)


@pytest.mark.parametrize("name", ["99999999999999999999", "1234567890"])
def test_what_is_no_id_can_be_the_name_of_a_job(db: Database, name: str) -> None:
    raw = {"kind": "pipeline", "name": "two", "jobs": [job("exact", name=name), job(scored_by(f"job:{name}/last"))]}

    with db.session() as session:
        made = submitting.submit_pipeline(session, parse(PipelineSpec, raw), inputs=[{}, {}], code=None, now=NOW)
        assert made[1].after == [made[0].id]
        with pytest.raises(InvalidSpec, match="there is no job"):
            submitting.submit(
                session, parse(JobSpec, job("exact", base=f"job:{name}/last")), inputs={}, code=None, now=NOW
            )


def test_a_secret_must_be_there_and_is_handed_over_under_a_name_that_no_program_knows(
    db: Database, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, settings = spec(job([JUDGE]), home), Settings(home=home)
    raw = made.model_dump(mode="json")
    with pytest.raises(NotFound, match="no secret JUDGE_KEY; `finery secrets set JUDGE_KEY` stores it"):
        resolver(db, home).inputs(made, allow_paths=True)

    monkeypatch.setenv("JUDGE_KEY", "from the environment")
    assert job_secrets(settings, raw, allow_environment=True) == {"JOB_SECRET_JUDGE_KEY": "from the environment"}
    with pytest.raises(NotFound):
        job_secrets(settings, raw, allow_environment=False)

    SecretStore(settings).write("JUDGE_KEY", "stored")
    assert job_secrets(settings, raw, allow_environment=False) == {"JOB_SECRET_JUDGE_KEY": "stored"}
    assert set(resolver(db, home).inputs(made, allow_paths=True)) == {"tiny-char", str(home / "rows.jsonl")}


def test_a_job_waits_for_the_reward_model_of_its_pipeline(db: Database) -> None:
    first = {**job("exact", name="rm"), "task": {**job("exact")["task"], "algorithm": "grpo"}}
    raw = {"kind": "pipeline", "name": "rlhf", "jobs": [first, job(scored_by("job:rm/last"))]}

    with db.session() as session:
        made = submitting.submit_pipeline(session, parse(PipelineSpec, raw), inputs=[{}, {}], code=None, now=NOW)
        ids = [row.id for row in made]
    with db.read() as session:
        second = session.get_one(Job, ids[1])

    assert second.after == [ids[0]]
    assert second.state == "created"
    assert second.spec["task"]["rewards"][1]["params"]["model"] == f"job:{ids[0]}/last"


def test_a_reward_model_of_a_job_that_does_not_exist_is_refused_by_its_place(db: Database) -> None:
    made: JobSpec = parse(JobSpec, job(scored_by("job:999999/last")))

    with db.session() as session, pytest.raises(InvalidSpec, match=r"task\.rewards\.1\.params\.model: there is no job"):
        submitting.submit(session, made, inputs={}, code=None, now=NOW)


def test_the_dry_run_names_the_place_of_each_complaint(db: Database, home: Path) -> None:
    text = """
name: aligned
kind: train
task:
  algorithm: grpo
  model: {base: tiny-char}
  data: {train: ./rows.jsonl}
  rewards:
    - {name: reward_model, params: {model: job:999999/last}}
    - name: python_file
      params: {path: ./reward.py}
    - name: llm_judge
      params: {base_url: "http://localhost/v1", model: m, api_key: JUDGE_KEY}
"""
    found = rehearsing.dry_run(text, db=db, resolver=resolver(db, home))

    assert [(problem.path, problem.line) for problem in found.problems] == [
        ("task.data.train", 7),
        ("task.rewards.0.params.model", 9),
        ("task.rewards.1.params.path", 11),
        ("task.rewards.2.params.api_key", 13),
    ]
