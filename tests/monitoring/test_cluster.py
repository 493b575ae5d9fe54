"""What is shown of the Ray cluster under a run: what its newest attempt told last."""

from pathlib import Path
from typing import Any

import orjson
import pytest

from finery.core.db import Database
from finery.core.errors import NotFound
from finery.core.rundir import CLUSTER
from finery.jobs.tables import Attempt, Job
from finery.monitoring import service
from tests.jobs.test_service import begin, submit
from tests.monitoring.test_service import metrics, take

HEAD = {
    "id": "1f2e3d4c5b6a",
    "host": "head",
    "address": "10.0.0.1",
    "is_alive": True,
    "is_head": True,
    "total": {"CPU": 64.0, "GPU": 8.0, "memory": 5e11},
    "free": {"CPU": 40.0, "GPU": 0.0, "memory": 3e11},
}
RANK = {
    "name": "WorkerDict_0:0",
    "kind": "WorkerDict",
    "state": "ALIVE",
    "node": HEAD["id"],
    "pid": 41,
    "resources": {"GPU": 1.0},
    "cause": "",
}


def seen(seq: int, **changes: Any) -> bytes:
    event = {
        "type": "cluster",
        "seq": seq,
        "time": 100.0 + seq,
        "name": "lab",
        "address": "http://head:8265",
        "is_reachable": True,
        "nodes": [HEAD],
        "actors": [],
    }
    return orjson.dumps({**event, **changes})


@pytest.fixture
def attempt(db: Database, tmp_path: Path) -> tuple[int, int]:
    submit(db)
    return begin(db, tmp_path)


def test_the_newest_state_is_shown_whatever_else_was_told_since(db: Database, attempt: tuple[int, int]) -> None:
    take(db, attempt, [seen(0), seen(1, actors=[RANK])], 9, writer=CLUSTER)
    take(db, attempt, [metrics(0, loss=1.0)], 9)

    with db.read() as session:
        found = service.cluster(session, attempt[0])

    assert found.attempt == 1
    assert found.seen is not None
    assert (found.seen.name, found.seen.time) == ("lab", 101.0)
    assert found.seen.nodes[0].model_dump() == HEAD
    assert found.seen.actors[0].model_dump() == RANK


def test_a_later_attempt_takes_the_place_of_an_earlier_one_once_it_tells(
    db: Database, attempt: tuple[int, int]
) -> None:
    job_id = attempt[0]
    take(db, attempt, [seen(7, is_reachable=False)], 9, writer=CLUSTER)
    with db.session() as session:
        first = session.get_one(Attempt, attempt[1])
        same = {name: getattr(first, name) for name in ("run_dir", "run_spec", "host", "worker")}
        again = Attempt(job_id=job_id, number=2, **same)
        session.add(again)
        session.flush()
        second = (job_id, again.id)
        session.get_one(Job, job_id).attempt = 2

    with db.read() as session:
        before = service.cluster(session, job_id)
    take(db, second, [seen(0)], 9, writer=CLUSTER)
    with db.read() as session:
        after = service.cluster(session, job_id)

    assert [(found.attempt, found.seen and found.seen.is_reachable) for found in (before, after)] == [
        (1, False),
        (2, True),
    ]


def test_a_job_without_a_cluster_has_an_empty_view_and_no_job_has_none(db: Database, attempt: tuple[int, int]) -> None:
    take(db, attempt, [metrics(0, loss=1.0)], 9)

    with db.read() as session:
        found = service.cluster(session, attempt[0])
        with pytest.raises(NotFound):
            service.cluster(session, 999)

    assert (found.attempt, found.seen) == (None, None)
