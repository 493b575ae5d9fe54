"""The error at the root of a failure on Ray, found in what real runs of Ray 2.60 have printed."""

from pathlib import Path

import pytest

from finery.core.events import ClusterActor
from finery.runtime.cluster import causes

LOGS = Path(__file__).parents[1] / "fixtures" / "ray"


def log(name: str) -> str:
    return (LOGS / f"{name}.log").read_text()


@pytest.mark.parametrize(
    ("name", "cause"),
    [
        ("raise_", "ValueError: no column named answer"),
        ("nested", "ValueError: no column named answer"),
        ("chained", "RuntimeError: the batch could not be made (from ValueError: no column named answer)"),
        ("memory", "MemoryError"),
        ("exit", "rank1 (pid PID, on 127.0.0.2) exited with code 7"),
        ("die", "rank1 (pid PID, on 127.0.0.2) ended without a word, as a process does that is killed (SIGKILL)"),
        ("left", "rank1 (pid PID, on 127.0.0.2) ended without a word, as a process does that is killed (SIGKILL)"),
        ("segfault", "rank1 (pid PID, on 127.0.0.2) crashed with SIGSEGV"),
        (
            "refused",
            "finery.core.errors.InvalidSpec: task.batch_size (3) must be a multiple of the number of processes (2)",
        ),
    ],
)
def test_the_cause_is_the_error_where_it_happened(name: str, cause: str) -> None:
    found = causes.root_cause(log(name), logs=LOGS / f"{name}.logs")
    assert found is not None
    pid = found.partition("(pid ")[2].partition(",")[0]
    assert found.replace(pid, "PID") == cause if pid else found == cause


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        (
            'Traceback (most recent call last):\n  File "x"\n'
            "ray.exceptions.OutOfMemoryError: Task was killed due to the node running low on memory.\n"
            "Memory on the node (IP: 10.0.0.2) was 30.1GB / 31.0GB",
            "out of memory: Task was killed due to the node running low on memory.",
        ),
        (
            'Traceback (most recent call last):\n  File "x"\n'
            "ray.exceptions.RayTaskError(OutOfMemoryError): ray::W.update() (pid=3)\n"
            "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.",
            "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.",
        ),
        ("(Rank pid=8, ip=10.0.0.2) KeyError: 'answer'\nthe end", "KeyError: 'answer'"),
        ("step 1\nstep 2\n", None),
        ("", None),
    ],
)
def test_other_words_of_ray(text: str, cause: str | None) -> None:
    assert causes.root_cause(text) == cause


def test_an_actor_that_the_cluster_calls_dead_is_the_cause_where_the_log_says_nothing() -> None:
    actor = ClusterActor(
        name="rank1",
        kind="Rank",
        state="DEAD",
        node="ab12",
        pid=9,
        resources={},
        cause="Worker exits with an exit code 3.",
    )
    assert causes.root_cause("step 1\n", actors=[actor]) == "rank1 (pid 9, on ab12) exited with code 3"


def test_only_words_about_errors_elsewhere_call_for_a_cause() -> None:
    assert causes.is_of_ray("ActorDiedError: The actor died unexpectedly before finishing this task.")
    assert causes.is_of_ray("RayTaskError(ValueError): ray::A.boom() (pid=1086)")
    assert not causes.is_of_ray("the dataset has no column named answer")


def test_a_long_cause_is_cut() -> None:
    assert len(causes.one_line("x" * 5000)) == 600
    assert causes.one_line("a\n  b\x1b[36mc\x1b[39m") == "a bc"


@pytest.mark.parametrize(
    ("cause", "is_of_loss"),
    [
        ("RuntimeError: [gloo/transport/tcp/pair.cc:553] Connection closed by peer [10.0.0.3]:54954", True),
        ("torch.distributed.DistBackendError: NCCL error: remote process exited or there was a network error", True),
        ("rank1 (pid 41, on 10.0.0.3) ended without a word, as a process does that is killed (SIGKILL)", True),
        ("ActorUnavailableError: The actor is unavailable", True),
        ("ValueError: no column named answer", False),
    ],
)
def test_what_others_say_of_a_machine_that_is_gone_is_not_yet_the_cause(cause: str, is_of_loss: bool) -> None:
    assert causes.is_of_loss(cause) is is_of_loss
