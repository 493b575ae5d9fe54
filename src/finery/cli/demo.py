"""`finery demo`: the main job on a real model, through the real API, with its gain and how sure that is.

Evaluate, short SFT, evaluate, GRPO, evaluate: five jobs of one pipeline. The settings were chosen on other seeds and a
validation split; see docs/guides/demo.md for the five runs that were made with them.
"""

import time
import webbrowser
from importlib import resources
from pathlib import Path
from typing import Annotated, Any

import typer

from finery.cli.up import PortOption, Server, free_port, serve
from finery.core import console, documents
from finery.core.client import Client, locate
from finery.core.console import JsonOption
from finery.core.errors import FineryError
from finery.core.settings import Settings
from finery.experiments.commands import story
from finery.jobs import uploading

_POLL_SECONDS = 1.0
_NUM_TEST = 500
_NUM_SFT = 224
_NUM_GRPO = 960
_ENDED = ("completed", "failed", "cancelled", "paused")

SeedOption = Annotated[int, typer.Option("--seed", min=0, max=10**6, help="Start of data, order and sampling.")]
ExitOption = Annotated[
    bool, typer.Option("--exit", help="End when the jobs have ended, instead of leaving the server up.")
]


def demo(seed: SeedOption = 0, exit_: ExitOption = False, port: PortOption = None, as_json: JsonOption = False) -> None:
    """Train SmolLM2-135M on sums by SFT and GRPO, watch it live, test GRPO's own gain. About six minutes on 2 cores."""
    settings = Settings()
    server, client = _connect(settings, port, quiet=as_json)
    try:
        result = _run(client, seed, quiet=as_json)
        if as_json:
            console.emit(result)
        else:
            _tell(result)
        if server is not None and not exit_:
            console.say(f"The server stays up at {server.url}. Stop it with Ctrl-C.")
            serve(server)
    finally:
        client.close()
        if server is not None:
            server.stop()


def _connect(settings: Settings, port: int | None, *, quiet: bool) -> tuple[Server | None, Client]:
    """A client of the server that runs on this home, or of one that is started for the demo."""
    running = Client(*locate(settings))
    try:
        if running.get("/server")["home"] == str(settings.home):
            if not quiet:
                console.say(f"using the server at {running.url}")
            return None, running
    except FineryError:
        running.close()
    server = Server(settings, free_port(settings, port))
    server.start()
    if not quiet:
        link = server.login_link()
        console.say(f"Finery runs at {server.url}. Open once, within 15 minutes: {link}")
        if console.is_terminal():
            webbrowser.open(link)
    return server, Client(*locate(settings))


def _run(client: Client, seed: int, *, quiet: bool) -> dict[str, Any]:
    started = time.monotonic()
    names = _make_data(client, seed)
    text = resources.files("finery.cli").joinpath("demo.yaml").read_text()
    for key, value in {**names, "seed": str(seed)}.items():
        text = text.replace("{" + key + "}", value)
    raw = documents.parse(text, name="demo.yaml").value
    made = uploading.submit(client, raw, base=Path.cwd())
    jobs = _follow(client, [job["id"] for job in made], quiet=quiet)
    failed = [job for job in jobs if job["state"] != "completed"]
    if failed:
        job = failed[0]
        log = client.get(f"/jobs/{job['id']}/logs", offset=-1500)["text"] if job["attempt"] else ""
        raise FineryError(f"job {job['id']} ({job['name']}) {job['state']}: {job['cause']}\n{log}")
    by_name = {job["name"]: job["id"] for job in jobs}
    return {
        "seed": seed,
        "seconds": round(time.monotonic() - started, 1),
        "jobs": by_name,
        "sft": _compare(client, by_name["before"], by_name["after-sft"]),
        "grpo": _compare(client, by_name["after-sft"], by_name["after-grpo"]),
    }


def _make_data(client: Client, seed: int) -> dict[str, str]:
    """Three sets of sums; no problem of one is in another, not even with its operands swapped."""
    made: dict[str, str] = {}
    for key, rows, extra in (("test", _NUM_TEST, {}), ("sft", _NUM_SFT, {"format": "sft"}), ("grpo", _NUM_GRPO, {})):
        params = {
            "left": {"min": 10, "max": 99},
            "right": {"min": 10, "max": 99},
            "prompt": "{left}{operator}{right}=",
            "num_rows": rows,
            "seed": 10 * seed + len(made),
            "exclude": list(made.values()),
            **extra,
        }
        body = {"generator": "arithmetic", "name": f"demo-{key}-{seed}", "params": params}
        made[key] = client.post("/datasets/generate", body)["ref"]
    return made


def _follow(client: Client, ids: list[int], *, quiet: bool) -> list[dict[str, Any]]:
    """Show the jobs until all have ended: bars on a terminal, lines otherwise."""
    if quiet or not console.is_terminal():
        return _follow_as_lines(client, ids, quiet=quiet)
    with console.progress() as progress:
        bars = {job_id: progress.add_task(f"job {job_id}", total=1, note="") for job_id in ids}
        while True:
            jobs = [client.get(f"/jobs/{job_id}") for job_id in ids]
            for job in jobs:
                done, total = _share(job)
                label = f"{job['name']:<11} {job['state']:<9}"
                progress.update(bars[job["id"]], description=label, completed=done, total=total, note=_note(job))
            if all(job["state"] in _ENDED for job in jobs):
                return jobs
            time.sleep(_POLL_SECONDS)


def _follow_as_lines(client: Client, ids: list[int], *, quiet: bool) -> list[dict[str, Any]]:
    shown: dict[int, tuple[str, int]] = {}
    while True:
        jobs = [client.get(f"/jobs/{job_id}") for job_id in ids]
        for job in jobs:
            key = (job["state"], (job["step"] or 0) // 10)
            if not quiet and shown.get(job["id"]) != key and job["state"] not in ("created", "queued"):
                shown[job["id"]] = key
                done, total = _share(job)
                console.say(f"{job['name']:<11} {job['state']:<9} {done}/{total}  {_note(job)}")
        if all(job["state"] in _ENDED for job in jobs):
            return jobs
        time.sleep(_POLL_SECONDS)


def _share(job: dict[str, Any]) -> tuple[int, int]:
    total = job["total_steps"] or 1
    return (total if job["state"] == "completed" else min(job["step"] or 0, total)), total


def _note(job: dict[str, Any]) -> str:
    values = job["last_values"]
    names = {"reward_mean": "reward", "accuracy": "accuracy", "loss": "loss"}
    shown = [f"{label} {values[name]:.3f}" for name, label in names.items() if isinstance(values.get(name), float)]
    return "  ".join(shown)


def _compare(client: Client, baseline: int, candidate: int) -> dict[str, Any]:
    found: dict[str, Any] = client.get("/evaluations/compare", baseline=baseline, candidate=candidate)
    return found


def _tell(result: dict[str, Any]) -> None:
    console.say("")
    console.say("What SFT brought:")
    for line in story(result["sft"]):
        console.say(f"  {line}")
    console.say("What GRPO brought on top of it:")
    for line in story(result["grpo"]):
        console.say(f"  {line}")
    console.say(f"{result['seconds']:.0f} s in all")
