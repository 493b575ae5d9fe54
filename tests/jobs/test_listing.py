"""Jobs are found, sorted, grouped and annotated, on SQLite and PostgreSQL."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from finery.core.db import Database
from finery.core.errors import Conflict, InvalidSpec, NotFound
from finery.jobs import listing, service
from finery.jobs.specs import JobEdit
from finery.jobs.tables import Job
from tests.jobs.test_service import NOW, submit

RATE = "task.optim.learning_rate"


def add(db: Database, name: str, *, rate: float = 1e-4, values: dict[str, Any] | None = None, **columns: Any) -> int:
    task = {
        "algorithm": "sft",
        "model": {"base": columns.pop("model", "tiny-char")},
        "data": {"train": "sums@1"},
        "optim": {"learning_rate": rate},
    }
    job_id = submit(db, name=name, task=task)
    with db.session() as session:
        job = session.get_one(Job, job_id)
        job.last_values = values or {}
        for column, value in columns.items():
            setattr(job, column, value)
    return job_id


def found(db: Database, query: str = "", sort: str = "id") -> list[str]:
    with db.read() as session:
        rows, total = listing.find(session, query=query, sort=sort, now=NOW, limit=100, offset=0)
        assert total == len(rows)
        return [row.name for row in rows]


@pytest.fixture
def three(db: Database) -> Database:
    add(db, "plain", rate=1e-4, values={"loss": 0.5, "reward/exact_mean": 0.9}, created_at=NOW - timedelta(days=5))
    add(db, "high rate", rate=1e-2, values={"loss": "NaN"}, tags=["baseline", "中文"], state="failed", model="org/name")
    add(db, "a_b", rate=1e-3, values={"loss": 2.0}, notes="100% diverged\nat night", state="completed", tags=["base"])
    return db


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("", ["plain", "high rate", "a_b"]),
        ("PLAIN", ["plain"]),
        ("%", ["a_b"]),
        ("_", ["a_b"]),
        ("night", ["a_b"]),
        ("中文", ["high rate"]),
        ('"high rate"', ["high rate"]),
        ("-plain -night", ["high rate"]),
        ("state:failed,completed", ["high rate", "a_b"]),
        ("state!=queued", ["high rate", "a_b"]),
        ("tag:baseline", ["high rate"]),
        ("tag:base", ["a_b"]),
        ("tag~base", ["high rate", "a_b"]),
        ("-tag~base", ["plain"]),
        (f"{RATE}>1e-4", ["high rate", "a_b"]),
        (f"{RATE}=0.001", ["a_b"]),
        (f"{RATE}<=1e-3 loss<1", ["plain"]),
        ("loss>=0.5", ["plain", "a_b"]),
        ("-loss>1", ["plain", "high rate"]),
        ("loss:NaN", ["high rate"]),
        ("reward/exact_mean>0.8", ["plain"]),
        ("metric.loss<1", ["plain"]),
        ("task.algorithm:sft name~rate", ["high rate"]),
        ("model:org/name", ["high rate"]),
        ("data:sums@1 kind:sft", ["plain", "high rate", "a_b"]),
        ("created>3d", ["high rate", "a_b"]),
        ("created<2025-12-30", ["plain"]),
        ("id>1 id<3", ["high rate"]),
        ("no_such_metric>0", []),
        ("task.no.such.key:1", []),
    ],
)
def test_a_query_finds_what_it_says(three: Database, query: str, names: list[str]) -> None:
    assert found(three, query) == names


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ('"open', "cannot be read from"),
        ("loss>much", "compared with a number"),
        ("name>3", "is text"),
        ("task.rewards.\u00b2:exact", "is no field"),
        ("task.rewards.99999999999999999999:exact", "is no field"),
        ("created>soon", "such as 2026-11-21"),
        ("loss>1,2", "takes one value"),
        ("tag>3", "tags are words"),
        ("a " * 30, "at most 20"),
    ],
)
def test_a_query_that_cannot_be_understood_says_what_it_expected(three: Database, query: str, message: str) -> None:
    with pytest.raises(InvalidSpec, match=message):
        found(three, query)


@pytest.mark.parametrize(
    ("sort", "names"),
    [
        ("", ["a_b", "high rate", "plain"]),
        ("name", ["a_b", "high rate", "plain"]),
        ("-name", ["plain", "high rate", "a_b"]),
        (f"-{RATE}", ["high rate", "a_b", "plain"]),
        ("-created,id", ["high rate", "a_b", "plain"]),
        ("reward/exact_mean,id", ["plain", "high rate", "a_b"]),
    ],
)
def test_jobs_are_sorted_by_any_field_and_those_without_it_come_last(
    three: Database, sort: str, names: list[str]
) -> None:
    assert found(three, sort=sort) == names


def test_numbers_are_sorted_as_numbers(db: Database) -> None:
    for loss in (10.0, 9.0, 100.0):
        add(db, f"l{loss:g}", values={"loss": loss})

    assert found(db, sort="loss") == ["l9", "l10", "l100"]
    assert found(db, sort="-loss") == ["l100", "l10", "l9"]


FIELD = st.sampled_from(["id", "name", "created", "tag", "loss", "task.optim.steps", "rewards.0", "a/b", "archived"])
CONDITION = st.builds(
    "".join, st.tuples(FIELD, st.sampled_from([":", "=", "!=", "~", "<", ">="]), st.text(max_size=12))
)


@given(query=st.text(max_size=40) | CONDITION, sort=st.text(max_size=20) | FIELD)
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_no_text_breaks_the_database(db: Database, query: str, sort: str) -> None:
    """What is written is found or refused; nothing else."""
    with db.read() as session:
        try:
            found, total = listing.find(session, query=query, sort=sort, now=NOW, limit=5, offset=0)
        except InvalidSpec:
            return
    assert len(found) == min(total, 5)


def test_groups_have_the_mean_and_range_of_a_metric(db: Database) -> None:
    for rate, accuracy in ((1e-4, 0.2), (1e-4, 0.4), (1e-3, 0.9), (1e-3, "NaN")):
        add(db, "run", rate=rate, values={"accuracy": accuracy})

    with db.read() as session:
        groups = listing.group(session, query="name:run", by=RATE, metric="accuracy", now=NOW)

    assert sorted((float(g.value or 0), g.num_jobs, g.mean, g.low, g.high) for g in groups) == [
        (1e-4, 2, pytest.approx(0.3), 0.2, 0.4),
        (1e-3, 2, 0.9, 0.9, 0.9),
    ]


def edit(db: Database, ids: list[int], **changes: Any) -> None:
    with db.session() as session:
        service.edit(session, ids, JobEdit(**changes), now=NOW)


def test_pinned_jobs_stand_first_whatever_the_order(three: Database) -> None:
    edit(three, [2], is_pinned=True)

    assert found(three, sort="id") == ["high rate", "plain", "a_b"]


def test_archived_jobs_are_left_out_until_asked_for_and_come_back(three: Database) -> None:
    edit(three, [2, 3], is_archived=True)
    assert found(three) == ["plain"]
    assert found(three, "archived:yes") == ["high rate", "a_b"]

    edit(three, [2], is_archived=False)

    assert found(three) == ["plain", "high rate"]


def test_a_job_that_has_not_ended_cannot_be_archived_and_then_none_is(three: Database) -> None:
    with pytest.raises(Conflict, match="job 1 has not ended"):
        edit(three, [2, 1], is_archived=True)
    with pytest.raises(NotFound):
        edit(three, [2, 99], notes="x")

    assert len(found(three)) == 3


def test_names_notes_and_tags_change_and_the_rest_stays(three: Database) -> None:
    edit(three, [2], name="renamed", add_tags=("new", "baseline"), remove_tags=("中文",))
    edit(three, [1, 2], notes="seen")

    with three.read() as session:
        first, second = service.get(session, 1), service.get(session, 2)
    assert (first.name, first.notes, first.tags) == ("plain", "seen", [])
    assert (second.name, second.notes, second.tags) == ("renamed", "seen", ["baseline", "new"])
    assert second.spec["name"] == "high rate"


@pytest.mark.parametrize("changes", [{"name": "../x"}, {"tags": ["a b"]}, {"tags": ['"']}, {"color": "red"}])
def test_what_cannot_be_a_name_or_a_tag_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="validation error"):
        JobEdit(**changes)


def test_times_are_compared_in_utc(db: Database) -> None:
    add(db, "night", created_at=datetime(2026, 1, 1, 23, 30, tzinfo=UTC))

    assert found(db, "created>2026-01-01T23:00") == ["night"]
    assert found(db, "created>2026-01-02T00:00+00:00") == []
