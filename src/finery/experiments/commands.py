"""`finery eval ...` and `finery checkpoints ...`: scores and paired comparisons, and what becomes of checkpoints, over
REST. An evaluation itself is a job (`kind: evaluate`)."""

from collections.abc import Callable
from typing import Annotated, Any

import typer

from finery.core import console
from finery.core.client import Client, connect
from finery.core.console import JsonOption
from finery.core.errors import NotFound

app = typer.Typer(no_args_is_help=True, help="Look at evaluations and compare them.")

checkpoints = typer.Typer(no_args_is_help=True, help="Checkpoints of a job: their scores and what keeps them.")

JobArgument = Annotated[int, typer.Argument(help="Id of an evaluate job.", min=1)]
OwnerArgument = Annotated[int, typer.Argument(help="Id of the training job.", min=1)]
StepArgument = Annotated[int, typer.Argument(help="Step of the checkpoint.", min=0)]
AttemptOption = Annotated[
    int | None, typer.Option(min=1, help="Where several attempts saved one of this step; the newest by default.")
]


@app.command("list")
def list_scores(as_json: JsonOption = False) -> None:
    """List the scores of completed evaluations."""
    with connect() as client:
        page = client.get("/evaluations")
    if as_json:
        console.emit(page)
        return
    if not page["scores"]:
        console.say("There are no completed evaluations. `finery jobs submit recipes/tiny_evaluate.yaml` makes one.")
        return
    console.table(
        ("job", "name", "model", "benchmark", "accuracy", "95 % interval", "n"),
        [
            (
                s["job_id"],
                s["job_name"],
                s["model"],
                s["benchmark"],
                _percent(s["accuracy"]),
                _interval(s),
                s["num_samples"],
            )
            for s in page["scores"]
        ],
    )


@app.command("benchmarks")
def list_benchmarks(as_json: JsonOption = False) -> None:
    """List the benchmarks that an evaluate job can name."""
    with connect() as client:
        page = client.get("/benchmarks")
    if as_json:
        console.emit(page)
        return
    console.table(("name", "what it is"), [(b["name"], b["summary"]) for b in page["benchmarks"]])


@app.command()
def compare(baseline: JobArgument, candidate: JobArgument, as_json: JsonOption = False) -> None:
    """Compare two evaluations of the same problems with the exact paired test."""
    with connect() as client:
        found = client.get("/evaluations/compare", baseline=baseline, candidate=candidate)
    if as_json:
        console.emit(found)
        return
    for line in story(found):
        console.say(line)


@app.command()
def samples(
    job_id: JobArgument,
    only: Annotated[str, typer.Option(help="all, wrong or right.")] = "all",
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Most problems to show.")] = 20,
    offset: Annotated[int, typer.Option(min=0, help="Problems to skip.")] = 0,
    as_json: JsonOption = False,
) -> None:
    """Show answered problems."""
    with connect() as client:
        page = client.get(f"/evaluations/{job_id}/samples", only=only, limit=limit, offset=offset)
    if as_json:
        console.emit(page)
        return
    rows = [
        (s["index"], s["prompt"], s["target"], s["answer"], "yes" if s["correct"] else "no") for s in page["samples"]
    ]
    console.table(("#", "problem", "target", "answer", "correct"), rows)


@app.command()
def policies(
    job_id: Annotated[int, typer.Argument(help="Id of a compare job.", min=1)], as_json: JsonOption = False
) -> None:
    """Show the table of a comparison: rewards, divergence, size and training of each model."""
    with connect() as client:
        found = client.get(f"/evaluations/{job_id}/policies")
    if as_json:
        console.emit(found)
        return
    console.table(*policy_table(found))


@checkpoints.command("list")
def list_checkpoints(job_id: OwnerArgument, as_json: JsonOption = False) -> None:
    """List the checkpoints of a job with their scores, marks, and what keeps them."""
    with connect() as client:
        page = client.get(f"/jobs/{job_id}/checkpoints")
    if as_json:
        console.emit(page)
        return
    if not page["checkpoints"]:
        console.say(f"Job {job_id} has no checkpoint yet. `finery jobs checkpoint {job_id}` saves one.")
        return
    labels = {one["key"]: one["label"] for one in page["series"]}
    rows = [
        (
            c["step"],
            c["attempt"],
            f"{c['num_bytes'] / 1e6:.1f}" if c["is_there"] else "deleted",
            "; ".join(_score(one, labels if len(labels) > 1 else {}) for one in c["evaluations"]),
            ", ".join(_marks(c)),
            ", ".join(f"job {one['job_id']}" if one["reason"] == "job" else one["reason"] for one in c["kept"]),
        )
        for c in page["checkpoints"]
    ]
    if len(labels) == 1:
        console.say(f"scores of {next(iter(labels.values()))}")
    console.table(("step", "attempt", "MB", "accuracy [95 % interval]", "", "kept for"), rows)


@checkpoints.command("evaluate")
def evaluate_checkpoint(
    job_id: OwnerArgument, step: StepArgument, attempt: AttemptOption = None, as_json: JsonOption = False
) -> None:
    """Evaluate a checkpoint as the job's plan says (monitoring.evaluation)."""
    _ask(job_id, step, attempt, "evaluate", "its evaluation is queued", as_json=as_json)


@checkpoints.command()
def keep(job_id: OwnerArgument, step: StepArgument, attempt: AttemptOption = None, as_json: JsonOption = False) -> None:
    """Keep a checkpoint, whatever the job file says, until it is released."""
    _ask(job_id, step, attempt, "keep", "is kept", as_json=as_json)


@checkpoints.command()
def release(
    job_id: OwnerArgument, step: StepArgument, attempt: AttemptOption = None, as_json: JsonOption = False
) -> None:
    """Take `keep` back. The checkpoint goes when nothing else keeps it."""
    _ask(job_id, step, attempt, "release", "is kept no longer by hand", as_json=as_json)


@checkpoints.command()
def delete(
    job_id: OwnerArgument, step: StepArgument, attempt: AttemptOption = None, as_json: JsonOption = False
) -> None:
    """Delete the files of a checkpoint. Refused while something needs it."""
    with connect() as client:
        row = _checkpoint(client, job_id, step, attempt)
        client.delete(f"/jobs/{job_id}/checkpoints/{row['id']}")
    if as_json:
        console.emit({"deleted": row["ref"], "attempt": row["attempt"]})
    else:
        console.say(f"{row['ref']} of attempt {row['attempt']} is deleted")


def _ask(job_id: int, step: int, attempt: int | None, verb: str, done: str, *, as_json: bool) -> None:
    with connect() as client:
        row = _checkpoint(client, job_id, step, attempt)
        page = client.post(f"/jobs/{job_id}/checkpoints/{row['id']}/{verb}")
    if as_json:
        console.emit(page)
    else:
        console.say(f"{row['ref']} of attempt {row['attempt']}: {done}")


def _checkpoint(client: Client, job_id: int, step: int, attempt: int | None) -> dict[str, Any]:
    """The newest checkpoint of a step, of those that are there if any is."""
    rows: list[dict[str, Any]] = client.get(f"/jobs/{job_id}/checkpoints")["checkpoints"]
    found = [row for row in rows if row["step"] == step and attempt in (None, row["attempt"])]
    if not found:
        raise NotFound(f"job {job_id} has no such checkpoint; `finery checkpoints list {job_id}` lists those it has")
    return max(found, key=lambda row: (row["is_there"], row["attempt"]))


def _score(one: dict[str, Any], labels: dict[str, str]) -> str:
    """An evaluation in words: its score, or how it stands and why."""
    name = f"{labels[one['series']]}: " if one["series"] in labels else ""
    if one["score"] is None:
        cause = f" ({one['cause']})" if one["cause"] else ""
        return f"{name}{one['state']}{cause}"
    marks = [word for key, word in (("is_best", "best"), ("is_over_fitting", "over-fitting")) if one["score"][key]]
    return f"{name}{_percent(one['score']['accuracy'])} {_interval(one['score'])} {', '.join(marks)}".rstrip()


def _marks(row: dict[str, Any]) -> list[str]:
    return [*(["latest"] if row["is_latest"] else []), *([] if row["is_on_path"] else ["left behind"])]


def policy_table(found: dict[str, Any]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Head and rows of a comparison of policies: a column per model, a row per measure."""
    columns = [_policy(row) for row in found["rows"]]
    lines = [(measure, *(column[measure] for column in columns)) for measure in columns[0]]
    return ("", *(row["name"] for row in found["rows"])), lines


def _policy(row: dict[str, Any]) -> dict[str, str]:
    """Measure -> value of one model, in words."""
    first, training = next(iter(row["rewards"].values())), row["training"] or {}
    return {
        "model": row["model"],
        **{name: _mean(score) for name, score in row["rewards"].items()},
        "change of the first": _or_dash(first["change"], lambda value: f"{100 * value:+.0f} %"),
        "prompts won": _or_dash(first["win_rate"], lambda value: f"{100 * value:.0f} %"),
        "KL per token": _or_dash(row["kl"], lambda value: f"{value:.3f} nats"),
        "tokens per answer": f"{row['response_length_mean']:.1f}",
        "size of the files": _megabytes(row["model_bytes"]),
        "its reward model": _or_dash(training.get("reward_model_bytes"), _megabytes),
        "memory to train": _or_dash(training.get("peak_memory_bytes"), _megabytes),
        "gain per GB": _or_dash(row["reward_per_gigabyte"], lambda value: f"{value:+.3f}"),
        "time to train": _or_dash(training.get("seconds"), lambda value: f"{value / 60:.1f} min"),
    }


def _mean(score: dict[str, Any]) -> str:
    low_high = " [{:.3f}, {:.3f}]".format(*score["interval"]) if score["interval"] else ""
    return f"{score['mean']:.3f}{low_high}"


def _or_dash(value: float | None, show: Callable[[float], str]) -> str:
    return "-" if value is None else show(value)


def _megabytes(value: float) -> str:
    return f"{value / 1e6:,.0f} MB"


def story(found: dict[str, Any]) -> list[str]:
    """A comparison in words."""
    low, high = found["difference_interval"]
    verdict = "distinguishable" if found["p_value"] < 0.05 else "not distinguishable"
    sides = [(name, found[name]) for name in ("baseline", "candidate")]
    return [
        *(f"{name}: job {s['job_id']} ({s['job_name']}) {_percent(s['accuracy'])} {_interval(s)}" for name, s in sides),
        f"over {found['num_shared']} shared problems: {found['improved']} improved, {found['regressed']} regressed, "
        f"{found['both_correct']} right in both, {found['both_wrong']} wrong in both",
        f"difference {100 * found['difference']:+.1f} points, 95 % interval {100 * low:+.1f} to {100 * high:+.1f}; "
        f"exact McNemar p = {found['p_value']:.3g}: {verdict} at 5 %",
    ]


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %"


def _interval(score: dict[str, Any]) -> str:
    low, high = score["interval"]
    return f"[{100 * low:.1f}, {100 * high:.1f}]"
