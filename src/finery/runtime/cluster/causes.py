"""Why a run on Ray has failed: the error at the root of what Ray says about it.

Ray wraps an error of a worker in errors of its own, once for each process that waited for it, and says of a process
that died only that it died. Pure but for the logs of workers, which are read where they lie on this machine.
"""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from finery.core.events import ClusterActor

_LONGEST: Final = 600
"""Characters of a cause."""
_ANSI: Final = re.compile(r"\x1b\[[0-9;]*m")
_PREFIX: Final = re.compile(r"^\((?P<name>[^()]+?) pid=(?P<pid>\d+)(?:, ip=[^)]*)?\)\s?")
"""Of a line that Ray has brought from a worker."""
_ERROR: Final = re.compile(r"^(?P<type>[A-Za-z_][\w.]*(?:\([\w.]+\))?): (?P<message>.+)$")
_BARE_ERROR: Final = re.compile(r"^(?P<type>(?:[A-Za-z_]\w*\.)*[A-Z]\w*(?:Error|Exception|Interrupt))$")
_ERROR_NAME: Final = re.compile(r"(?:Error|Exception|Interrupt|Exit|Refused|Failed|Stopped|Invalid\w*)(?:\([\w.]+\))?$")
_WRAPPERS: Final = frozenset(
    {
        "ActorDiedError",
        "ActorUnavailableError",
        "ActorUnschedulableError",
        "GetTimeoutError",
        "LocalRayletDiedError",
        "NodeDiedError",
        "ObjectLostError",
        "OwnerDiedError",
        "OutOfMemoryError",
        "RayActorError",
        "RayError",
        "RaySystemError",
        "RayTaskError",
        "RpcError",
        "TaskCancelledError",
        "WorkerCrashedError",
    }
)
"""Errors that Ray raises for what happened elsewhere. torch.OutOfMemoryError is told apart by its module."""
_OOM: Final = re.compile(
    r"(?:Task was killed due to the node running low on memory|killed due to memory pressure|"
    r"running low on memory[^.\n]*)[^\n]*"
)
_KILLED: Final = "ended without a word, as a process does that is killed (SIGKILL)"
_BROKEN: Final = re.compile(
    r"(?:closed|reset) by peer|Broken pipe|Connection refused|[Ss]ocket closed|gloo|NCCL|HCCL|[Dd]ied|lost|Unavailable"
)
"""Of what is said by those that are left when a process or a machine is gone."""
_FATAL: Final = re.compile(
    r"^(?:\*\*\* (?P<signal>SIG[A-Z]+) received|Fatal Python error: (?P<fatal>.+))", re.MULTILINE
)
_DEAD_ACTOR: Final = re.compile(
    r"(?:ActorDiedError|RayActorError): (?P<head>[^\n]*)(?P<fields>(?:\n\t[a-z_]+: [^\n]*)*)(?:\n(?P<why>[^\n]+))?"
)
_LOST_NODE: Final = re.compile(
    r"(?:node|raylet)[^\n.]{0,80}(?:died|dead|has been marked dead|missed too many heartbeats)"
)


def root_cause(log: str, *, logs: Path | None = None, actors: Iterable[ClusterActor] = ()) -> str | None:
    """The error at the root of a failure, on one line.

    Args:
        log: What the driver has printed, or its end.
        logs: Folder of Ray's logs, where it lies on this machine.
        actors: Processes of the run, as the cluster has told of them.

    Returns:
        Such as `ValueError: no such column` or `rank1 (pid 41, on 10.0.0.2) was killed ...`; None where nothing is
        found.
    """
    text = _ANSI.sub("", log)
    own, brought = _told_apart(text)
    last = own[own.rfind("Traceback (most recent call last)") :] if "Traceback (most recent" in own else own
    chain = [line for line in _chain(own) if not _is_wrapper(line.partition(": ")[0])]
    if chain:
        return one_line(chain[-1] if chain[0] == chain[-1] else f"{chain[-1]} (from {chain[0]})")
    oom = _OOM.search(last) or _OOM.search(own)
    if oom:
        return one_line(f"out of memory: {oom.group(0)}")
    death = _death(last, logs, brought) or _death_of(actors, logs, brought)
    return one_line(death or _innermost(_errors(line for lines in brought.values() for line in lines))) or _wrapped(
        last
    )


def is_of_ray(message: str) -> bool:
    """Whether a child's last words are Ray's about an error elsewhere, and not yet its cause."""
    return any(name in message for name in _WRAPPERS) or "ray::" in message


def is_kill(cause: str) -> bool:
    """Whether a cause says no more than that a process was ended from outside."""
    return _KILLED in cause


def is_of_loss(cause: str) -> bool:
    """Whether a cause may be no more than what others have seen of a machine that is gone."""
    return is_kill(cause) or _BROKEN.search(cause) is not None


def one_line(text: str) -> str:
    """Text without line breaks, cut where it is long."""
    flat = " ".join(_ANSI.sub("", text).split())
    return flat if len(flat) <= _LONGEST else flat[: _LONGEST - 3] + "..."


def of_ended_cluster(log: str) -> str | None:
    """Which of Ray's own processes has ended, from what `ray start --block` has printed at its end."""
    ended = re.findall(r"^\s*([a-z_]+)(?:.*)\[exit code=(-?\d+)\]", _ANSI.sub("", log), re.MULTILINE)
    return ", ".join(f"{name} ended with exit code {code}" for name, code in ended) or None


def _told_apart(text: str) -> tuple[str, dict[str, list[str]]]:
    """What the driver said itself, and the lines that were brought from workers, by their pids."""
    own: list[str] = []
    brought: dict[str, list[str]] = {}
    for line in text.splitlines():
        prefix = _PREFIX.match(line)
        if prefix is None:
            own.append(line)
        else:
            brought.setdefault(prefix.group("pid"), []).append(line[prefix.end() :])
    return "\n".join(own), brought


def _chain(own: str) -> list[str]:
    """Errors of the last failure, the first of a chain first: those joined by 'was the direct cause of'."""
    parts = re.split(r"\n(?=\S*Traceback \(most recent call last\))", own)
    start = len(parts) - 1
    while start > 0 and re.search(r"(?:direct cause of the following|another exception occurred)", parts[start - 1]):
        start -= 1
    return _errors("\n".join(parts[start:] if "Traceback (most recent" in own else []).splitlines())


def _errors(lines: Iterable[str]) -> list[str]:
    found = []
    for line in lines:
        match = _ERROR.match(line)
        if (match and _ERROR_NAME.search(match.group("type"))) or _BARE_ERROR.match(line):
            found.append(line)
    return found


def _innermost(errors: list[str]) -> str:
    """The last error that is not Ray's word for one elsewhere."""
    return next((line for line in reversed(errors) if not _is_wrapper(line.partition(": ")[0])), "")


def _is_wrapper(type_: str) -> bool:
    module, _, name = type_.partition("(")[0].rpartition(".")
    return name in _WRAPPERS and module in ("", "ray.exceptions")


def _death(text: str, logs: Path | None, brought: Mapping[str, list[str]]) -> str | None:
    """What became of the actor that the last error calls dead."""
    dead = list(_DEAD_ACTOR.finditer(text))
    if not dead:
        return None
    fields = dict(line.strip().split(": ", 1) for line in dead[-1].group("fields").splitlines() if ": " in line)
    why = dead[-1].group("why") or dead[-1].group("head")
    who = fields.get("name") or fields.get("class_name") or "an actor"
    where = f" (pid {fields['pid']}, on {fields.get('ip', '?')})" if "pid" in fields else ""
    return _told(f"{who}{where}", why, _words_of(fields.get("pid", ""), logs, brought))


def _death_of(actors: Iterable[ClusterActor], logs: Path | None, brought: Mapping[str, list[str]]) -> str | None:
    for actor in actors:
        if actor.state == "DEAD" and actor.cause:
            return _told(
                f"{actor.name} (pid {actor.pid}, on {actor.node})",
                actor.cause,
                _words_of(str(actor.pid), logs, brought),
            )
    return None


def _told(who: str, why: str, words: str) -> str:
    """One sentence about a dead process, from what Ray says of it and what it has printed itself."""
    fatal = _FATAL.search(words)
    if fatal:
        name = fatal.group("signal")
        return f"{who} crashed with {name}" if name else f"{who} crashed: {fatal.group('fatal')}"
    own = _innermost(_errors(words.splitlines()))
    code = re.search(r"exit code (-?[1-9]\d*)", why)
    if own:
        return f"{own} (in {who})"
    if _OOM.search(why):
        return f"out of memory: {who} was killed by Ray, since its node ran low on memory"
    if code:
        return f"{who} exited with code {code.group(1)}"
    if _LOST_NODE.search(why):
        return f"{who} was lost with its node: {why}"
    if "ray.kill" in why:
        return f"{who} was ended by ray.kill"
    return f"{who} {_KILLED}" if "End of file" in why or "connection error" in why else f"{who} died: {why}"


def _words_of(pid: str, logs: Path | None, brought: Mapping[str, list[str]]) -> str:
    """The end of what a worker has written to its standard error, or what was brought of it."""
    for path in logs.glob(f"worker-*-{pid}.err") if logs is not None and pid else ():
        return _ANSI.sub("", path.read_text("utf-8", "replace")[-1 << 16 :])
    return "\n".join(brought.get(pid, []))


def _wrapped(text: str) -> str | None:
    """Ray's own last word, where there is no better one."""
    found = _errors(text.splitlines())
    return one_line(found[-1]) if found else None
