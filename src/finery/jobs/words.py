"""A job in words, as the command line tells it. Pure."""

from typing import Any, Final

STOPPED: Final = ("completed", "failed", "cancelled", "paused")
"""States in which nothing happens until somebody asks for it."""

Job = dict[str, Any]
"""A job as the API gives it."""


def exit_code(job: Job) -> int:
    """What the command line ends with after a job that has stopped; see docs/guides/cli.md."""
    return {"completed": 0, "failed": 1}.get(job["state"], 3)


def has_stopped(job: Job) -> bool:
    """Whether a job has stopped and no wish about it is open."""
    return job["state"] in STOPPED and not job["requests"]


def kind(job: Job) -> str:
    """What it does: its algorithm, or its kind."""
    return str(job["algorithm"] or job["kind"])


def state(job: Job) -> str:
    """Its state, with the cause."""
    return f"{job['state']}{cause(job)}"


def cause(job: Job) -> str:
    """Why it is in its state, in brackets after a space; empty when there is nothing to say."""
    return f" ({job['cause']})" if job["cause"] else ""


def progress(job: Job) -> str:
    """How far it is and how quick; empty before the first step."""
    if job["step"] is None:
        return ""
    total = f" of {job['total_steps']}" if job["total_steps"] else ""
    pace = f", {job['seconds_per_step']:.3g} s/step" if job["seconds_per_step"] else ""
    return f"step {job['step']}{total}{pace}"


def remaining_seconds(job: Job) -> float | None:
    """Time to the last step at the present pace; None when it does not run or nobody can say."""
    if job["state"] != "running" or job["step"] is None or not job["total_steps"] or not job["seconds_per_step"]:
        return None
    return max(0.0, float((job["total_steps"] - job["step"]) * job["seconds_per_step"]))


def duration(seconds: float) -> str:
    """Such as `42 s`, `12 min 05 s`, `3 h 07 min`, `2 d 04 h`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    if whole < 86_400:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 86_400} d {whole % 86_400 // 3600:02d} h"


def number(value: float | str) -> str:
    """A metric's value; not-a-number and infinity are strings already."""
    return value if isinstance(value, str) else f"{value:.4g}"


def estimate(found: dict[str, Any]) -> str:
    """What was expected of a job's memory and what became of it, as the API gives it."""
    where = f"on {found['num_devices']} x {found['device']}"
    if found["predicted_bytes"] is None:
        expected = f"no estimate ({found['reason']})"
    else:
        expected = f"{found['predicted_bytes'] / 2**30:.2f} GiB expected of each"
    if found["outcome"] == "oom":
        return f"memory {where}: {expected}, out of memory at {found['usable_bytes'] / 2**30:.1f} GiB"
    taken = "nothing measured"
    if found["measured_bytes"] is not None:
        taken = f"{found['measured_bytes'] / 2**30:.2f} GiB measured"
    return f"memory {where}: {expected}, {taken}"
