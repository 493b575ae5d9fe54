"""Checkpoints are kept by a policy or by holds, and a held one is never deleted, whoever is killed or quicker."""

import fcntl
import multiprocessing
import os
import signal
import time
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from finery.core import checkpoints, retention
from finery.core.retention import Retention
from tests.core.test_checkpoints import make

SPAWN = multiprocessing.get_context("fork")
ROUNDS = 400


def steps(root: Path) -> list[int]:
    return [step for step, _ in checkpoints.existing(root)]


@pytest.mark.parametrize(
    ("keep", "left"),
    [
        (Retention(last=2), [35, 40]),
        (Retention(last=1, every=20), [20, 40]),
        (Retention(last=2, every=10), [10, 20, 30, 35, 40]),
        (Retention(last=9), [5, 10, 15, 20, 30, 35, 40]),
    ],
)
def test_the_newest_and_each_nth_are_kept(tmp_path: Path, keep: Retention, left: list[int]) -> None:
    for step in (5, 10, 15, 20, 30, 35, 40):
        make(tmp_path, step)

    gone = retention.prune(tmp_path, keep)

    assert steps(tmp_path) == left
    assert not any(path.exists() for path in gone)


def test_a_held_checkpoint_goes_once_the_last_hold_is_released(tmp_path: Path) -> None:
    first = make(tmp_path, 1)
    make(tmp_path, 2)
    assert retention.hold(first, retention.job_hold(7))
    assert retention.hold(first, retention.BEST)

    retention.prune(tmp_path, Retention(last=1))
    assert steps(tmp_path) == [1, 2]
    retention.release(first, retention.job_hold(7))
    assert retention.prune(tmp_path, Retention(last=1)) == []
    retention.release(first, retention.BEST)
    assert retention.prune(tmp_path, Retention(last=1)) == [first]

    assert steps(tmp_path) == [2]
    assert not retention.hold(first, retention.BEST)
    assert retention.holding_job(retention.job_hold(7)) == 7
    assert retention.holding_job(retention.BEST) is None


def test_training_does_not_wait_for_one_who_is_stopped_while_holding(tmp_path: Path) -> None:
    make(tmp_path, 1)
    make(tmp_path, 2)
    (tmp_path / "holds").mkdir()
    with open(tmp_path / "holds" / "lock", "wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert retention.prune(tmp_path, Retention(last=1)) == []
    assert len(retention.prune(tmp_path, Retention(last=1))) == 1


def hold_all(root: str, pipe: Connection) -> None:
    """Hold what is asked for, as quickly as possible, and say whether it was there."""
    while (step := pipe.recv()) is not None:
        pipe.send(retention.hold(checkpoints.directory(Path(root), step), retention.job_hold(step)))


def test_of_one_who_holds_and_one_who_deletes_at_the_same_moment_the_first_wins(tmp_path: Path) -> None:
    """What a hold was given for is whole ever after; what was deleted first was given to nobody."""
    mine, other = SPAWN.Pipe()
    holder = SPAWN.Process(target=hold_all, args=(str(tmp_path), other), daemon=True)
    holder.start()
    outcomes = set()
    for step in range(1, 2 * ROUNDS, 2):
        path = make(tmp_path, step)
        make(tmp_path, step + 1)
        mine.send(step)
        time.sleep(step % 40 * 1e-5)  # a little earlier, a little later
        gone = retention.prune(tmp_path, Retention(last=1))
        was_given = mine.recv()
        outcomes.add(was_given)
        assert was_given == (checkpoints.verify(path) == [])
        assert not (was_given and path in gone)
        for left in range(step, step + 2):
            retention.release(checkpoints.directory(tmp_path, left), retention.job_hold(left))
        retention.prune(tmp_path, Retention(last=1))
    mine.send(None)
    holder.join(timeout=10)

    assert outcomes == {True, False}, "one side always came first, so that nothing was tried"


def prune_for_ever(root: str) -> None:
    while True:
        retention.prune(Path(root), Retention(last=1))


def test_who_is_killed_while_deleting_leaves_whole_checkpoints_and_debris(tmp_path: Path) -> None:
    for turn in range(20):
        root = tmp_path / str(turn)
        for step in range(1, 9):
            make(root, step)
        held = checkpoints.directory(root, 3)
        assert retention.hold(held, retention.PINNED)
        pruner = SPAWN.Process(target=prune_for_ever, args=(str(root),), daemon=True)
        pruner.start()
        time.sleep(turn * 2e-4)
        assert pruner.pid is not None
        os.kill(pruner.pid, signal.SIGKILL)
        pruner.join()

        assert {3, 8} <= set(steps(root))
        assert all(checkpoints.verify(path) == [] for _, path in checkpoints.existing(root))
        retention.prune(root, Retention(last=1))  # the lock of the dead is free
        assert steps(root) == [3, 8]
