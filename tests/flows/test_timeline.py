"""Checkpoints are evaluated beside the job that saves them, and kept as long as something needs them."""

from collections.abc import Iterator
from typing import Any

import psutil
import pytest

from finery.core import checkpoints as files
from finery.core.errors import FineryError
from tests.platform import Server, end_strays, sft_job, wait_for

PLAN = {
    "every_steps": 25,
    "benchmarks": [{"benchmark": {"name": "arithmetic"}, "data": "problems", "limit": 24, "max_new_tokens": 6}],
    "cpu_threads": 1,
}


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with data to train on and problems to be asked."""
    home = tmp_path_factory.mktemp("timeline") / "home"
    home.mkdir()
    made = Server(home)
    made.generate("sums", num_rows=200, format="sft")
    made.generate("problems", num_rows=30, seed=5)
    yield made
    made.stop()
    end_strays(home)


def timeline(server: Server, job_id: int) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = server.client.get(f"/jobs/{job_id}/checkpoints")["checkpoints"]
    return rows


def states(server: Server, job_id: int) -> list[str]:
    """Of all evaluations of a job's checkpoints."""
    return [one["state"] for row in timeline(server, job_id) for one in row["evaluations"]]


def submit(server: Server, steps: int = 20_000, *, task: dict[str, Any] | None = None, **monitoring: Any) -> int:
    made = {"checkpoint_interval": 100_000, "gradient_interval": 0, "keep_checkpoints": 1, "evaluation": PLAN}
    spec = sft_job(steps=steps, monitoring=made | monitoring)
    spec["task"] |= task or {}
    return server.submit(spec)


def at(server: Server, job_id: int, step: int) -> dict[str, Any]:
    return next(row for row in timeline(server, job_id) if row["step"] == step)


def test_scores_arrive_while_it_trains_and_none_is_lost_or_made_twice_when_the_worker_dies(bench: Server) -> None:
    job_id = submit(bench, keep_best=1, keep_every=100)
    child = wait_for("an evaluation", lambda: bench.client.get("/jobs", query=f"parent:{job_id} state:running")["jobs"])
    process = wait_for("its process", bench.attempt(child[0]["id"]).read_supervisor).child
    assert psutil.Process(process.pid).nice() == 10
    wait_for("a first score", lambda: "scored" in states(bench, job_id))
    bench.await_restart("worker", bench.kill("worker"))
    wait_for("two more", lambda: states(bench, job_id).count("scored") >= 3)
    assert bench.job(job_id)["state"] == "running"  # one job at most runs here, and the evaluations ran beside it

    bench.ask(job_id, "set", evaluation_interval=7)
    wait_for("another interval", lambda: any(row["step"] % 25 for row in timeline(bench, job_id)))
    bench.ask(job_id, "cancel")
    bench.await_state(job_id, "cancelled")
    wait_for("the last evaluation", lambda: not {"waiting", "running"} & set(states(bench, job_id)))

    rows = timeline(bench, job_id)
    children = bench.client.get("/jobs", query=f"parent:{job_id}", limit=1000)["jobs"]
    models = [child["model"] for child in children]
    assert len(models) == len(set(models)), "a checkpoint was evaluated twice"
    assert set(models) <= {row["ref"] for row in rows}
    assert set(states(bench, job_id)) == {"scored", "skipped"}
    due = [row for row in rows if row["evaluations"]]
    assert due[-1]["evaluations"][0]["state"] == "scored"  # the newest always has its turn
    assert all(row["evaluations"][0]["cause"] for row in due if row["evaluations"][0]["state"] == "skipped")
    assert not {child["id"] for child in children} & {job["id"] for job in bench.client.get("/jobs")["jobs"]}
    assert_what_is_kept_is_what_the_job_file_says(bench, job_id)


def assert_what_is_kept_is_what_the_job_file_says(server: Server, job_id: int) -> None:
    rows = timeline(server, job_id)
    scored = [row for row in rows if row["evaluations"] and row["evaluations"][0]["score"]]
    best = max(scored, key=lambda row: (row["evaluations"][0]["score"]["accuracy"], -row["step"]))
    expected = {rows[-1]["step"], best["step"]} | {row["step"] for row in rows if row["step"] % 100 == 0}

    def there() -> list[dict[str, Any]]:
        return [row for row in timeline(server, job_id) if row["is_there"]]

    wait_for("the rest to be deleted", lambda: {row["step"] for row in there()} == expected)
    assert best["evaluations"][0]["score"]["is_best"]
    assert all(row["kept"] for row in there())
    for row in there():
        path = files.directory(server.attempt(job_id).checkpoints, row["step"])
        assert files.verify(path) == []
    left = {path.name for path in server.attempt(job_id).checkpoints.glob("step-*")}
    assert left == {f"step-{step}" for step in expected}


def test_what_another_job_refers_to_stays_until_that_job_has_ended(bench: Server) -> None:
    """With LoRA, evaluated by hand, by a job that waits, and by a person."""
    lora = {"model": {"base": "tiny-char", "lora": {"rank": 4}}}
    job_id = submit(bench, task=lora, evaluation=None, checkpoint_interval=10)
    wait_for("a checkpoint", lambda: any(row["is_there"] for row in timeline(bench, job_id)))
    held = next(row for row in reversed(timeline(bench, job_id)) if row["is_there"])
    kept = f"/jobs/{job_id}/checkpoints/{held['id']}"
    bench.client.post(f"{kept}/keep")
    wait_for("a newer one", lambda: timeline(bench, job_id)[-1]["step"] > held["step"])
    second = bench.submit(sft_job(name="second") | {"task": sft_job()["task"] | {"model": {"base": held["ref"]}}})
    by_hand = {"model": {"base": held["ref"]}, **PLAN["benchmarks"][0]}
    hand = bench.submit({"name": "by hand", "kind": "evaluate", "task": by_hand, "resources": {"cpu_threads": 1}})

    assert {"reason": "job", "job_id": second} in at(bench, job_id, held["step"])["kept"]
    with pytest.raises(FineryError, match=f"job {second} needs it"):
        bench.client.delete(kept)
    bench.await_step(job_id, held["step"] + 40)
    assert at(bench, job_id, held["step"])["is_there"]
    bench.ask(job_id, "pause")
    bench.await_state(job_id, "paused")
    newest = next(row for row in timeline(bench, job_id) if row["is_latest"])
    with pytest.raises(FineryError, match="newest checkpoint"):
        bench.client.delete(f"/jobs/{job_id}/checkpoints/{newest['id']}")

    bench.await_state(second, "running")
    bench.ask(second, "cancel")
    bench.await_state(hand, "completed")
    [score] = at(bench, job_id, held["step"])["evaluations"]
    assert (score["job_id"], score["state"]) == (hand, "scored")
    bench.ask(job_id, "cancel")
    wait_for(
        "jobs to let it go", lambda: at(bench, job_id, held["step"])["kept"] == [{"reason": "pinned", "job_id": None}]
    )
    bench.client.post(f"{kept}/release")
    wait_for("it to go", lambda: not at(bench, job_id, held["step"])["is_there"])
    with pytest.raises(FineryError, match="deleted"):
        bench.client.post(f"{kept}/keep")


def test_an_evaluation_that_fails_says_why_and_can_be_repeated(bench: Server) -> None:
    """Problems too long for the model: what is wrong shows at the checkpoint, and training is done all the same."""
    long = {**PLAN, "benchmarks": [{**PLAN["benchmarks"][0], "max_new_tokens": 100_000}]}
    job_id = submit(bench, steps=10, evaluation=long)
    bench.await_state(job_id, "completed")
    wait_for("its evaluation", lambda: states(bench, job_id) == ["failed"])

    [row] = timeline(bench, job_id)
    assert "lower max_new_tokens" in row["evaluations"][0]["cause"]
    again = bench.client.post(f"/jobs/{job_id}/checkpoints/{row['id']}/evaluate")["checkpoints"][0]
    assert {"reason": "evaluation", "job_id": None} in again["kept"]
    wait_for("a second one", lambda: len(bench.client.get("/jobs", query=f"parent:{job_id} state:failed")["jobs"]) == 2)


@pytest.mark.parametrize(
    ("monitoring", "message"),
    [
        ({"evaluation": {**PLAN, "benchmarks": [{"benchmark": {"name": "ghost"}}]}}, "ghost"),
        ({"evaluation": {**PLAN, "benchmarks": [{"benchmark": {"name": "arithmetic"}}]}}, "benchmarks.0.data"),
        ({"evaluation": {"every_steps": 5, "benchmarks": []}}, "at least 1"),
        ({"evaluation": {"benchmarks": PLAN["benchmarks"]}}, "every_hours"),
        ({"evaluation": None, "keep_best": 2}, "monitoring.evaluation"),
    ],
)
def test_a_plan_that_cannot_work_is_refused(bench: Server, monitoring: dict[str, Any], message: str) -> None:
    with pytest.raises(FineryError, match=message):
        submit(bench, **monitoring)


@pytest.mark.parametrize(("data", "message"), [("no-such", "no-such"), ("sums", "verifiable")])
def test_problems_that_are_none_are_refused(bench: Server, data: str, message: str) -> None:
    plan = {**PLAN, "benchmarks": [{**PLAN["benchmarks"][0], "data": data}]}
    with pytest.raises(FineryError, match=message):
        submit(bench, evaluation=plan)


def test_a_rule_over_scores_pauses_the_run_and_the_score_is_a_metric_of_it(bench: Server) -> None:
    rule = {"name": "seen", "when": "eval/arithmetic >= 0", "then": ["pause_training"], "max_count": 1}
    job_id = submit(bench, rules=[rule])

    paused = bench.await_state(job_id, "paused")

    assert paused["cause"].startswith("rule seen: eval/arithmetic >= 0 (eval/arithmetic = ")
    assert "stopped at step" in paused["cause"]
    scored = next(row for row in timeline(bench, job_id) if "scored" in [one["state"] for one in row["evaluations"]])
    [series] = bench.client.get(f"/jobs/{job_id}/series", names="eval/arithmetic")["series"]
    assert series["steps"][0] == scored["step"]
    assert series["values"][0] == scored["evaluations"][0]["score"]["accuracy"]
    [alert, action] = bench.client.get(f"/jobs/{job_id}/story")["entries"][::-1]
    assert (alert["event"]["step"], action["event"]["action"]) == (scored["step"], "pause_training")
    assert action["undo"] == "resume"
    bench.client.post(f"/jobs/{job_id}/actions/{action['cursor']}/undo")
    bench.await_attempt(job_id, 2)
    bench.ask(job_id, "cancel")
    bench.await_state(job_id, "cancelled")
