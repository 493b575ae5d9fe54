"""Versions are immutable, numbered, and the same content is the same version."""

import json
import threading
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from finery.core.clock import FakeClock
from finery.core.db import Database
from finery.core.errors import InvalidSpec, NotFound
from finery.core.objects import ObjectStore
from finery.datasets import service, staging
from finery.datasets.specs import GenerateSpec, ImportSpec
from finery.datasets.tables import DatasetVersion

NOW = FakeClock().now()


@pytest.fixture
def objects(tmp_path: Path) -> ObjectStore:
    return ObjectStore(tmp_path / "objects")


class Desk:
    """Imports and generates with short calls."""

    def __init__(self, db: Database, objects: ObjectStore):
        self.db = db
        self.objects = objects

    def upload(self, content: bytes, name: str = "set", file_name: str = "a.jsonl", **more: Any) -> DatasetVersion:
        spec = ImportSpec(name=name, object=self.objects.put_bytes(content).sha256, file_name=file_name, **more)
        with self.db.session() as session:
            return service.import_file(session, spec, objects=self.objects, now=NOW)

    def generate(self, name: str = "sums", generator: str = "arithmetic", **params: Any) -> DatasetVersion:
        spec = GenerateSpec(generator=generator, name=name, params=params)
        with self.db.session() as session:
            return service.generate(session, spec, objects=self.objects, now=NOW)

    def rows(self, version: DatasetVersion) -> list[dict[str, Any]]:
        return list(staging.read_canonical(self.objects.path(version.sha256)))

    def get(self, ref: str) -> DatasetVersion:
        with self.db.read() as session:
            return service.get(session, ref)


@pytest.fixture
def desk(db: Database, objects: ObjectStore) -> Desk:
    return Desk(db, objects)


def _jsonl(*rows: dict[str, Any]) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


PAIR = {"prompt": "1+1", "answer": "2"}
OTHER = {"prompt": "1+2", "answer": "3"}


def test_an_import_becomes_version_one_with_canonical_rows(desk: Desk) -> None:
    version = desk.upload(_jsonl({"question": "1+1", "answer": 2}, {"prompt": "1+2", "answer": "3", "level": 1}))

    assert version.ref == "set@1"
    assert version.format == "verifiable"
    assert version.num_rows == 2
    assert version.num_problems == 0
    assert version.created_at == NOW
    assert version.source["file_name"] == "a.jsonl"
    assert desk.rows(version) == [PAIR, {**OTHER, "level": 1}]


def test_identical_rows_are_the_version_that_exists_even_from_another_file_type(desk: Desk, tmp_path: Path) -> None:
    first = desk.upload(_jsonl(PAIR, OTHER))
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([PAIR, OTHER]), tmp_path / "a.parquet")

    again = desk.upload(_jsonl(PAIR, OTHER))
    array = desk.upload(json.dumps([PAIR, OTHER], indent=2).encode(), file_name="b.json")
    table = desk.upload(b"prompt,answer\n1+1,2\n1+2,3\n", file_name="c.csv")
    parquet = desk.upload((tmp_path / "a.parquet").read_bytes(), file_name="d.parquet")

    assert {version.id for version in (first, again, array, table, parquet)} == {first.id}


def test_other_rows_are_the_next_version_and_the_name_means_the_newest(desk: Desk) -> None:
    desk.upload(_jsonl(PAIR))
    desk.upload(_jsonl(OTHER))
    back = desk.upload(_jsonl(PAIR))
    desk.upload(_jsonl(PAIR), name="elsewhere")

    assert back.ref == "set@1"
    assert desk.get("set").ref == "set@2"
    assert desk.get("set@1").sha256 == back.sha256
    assert desk.get("elsewhere").ref == "elsewhere@1"


def test_a_broken_row_refuses_the_file_with_its_line(desk: Desk) -> None:
    content = _jsonl(PAIR) + b"not json\n" + _jsonl({"prompt": "only"})

    with pytest.raises(InvalidSpec, match=r"2 rows are broken; line 2: not valid JSON.*keep_good_rows") as refused:
        desk.upload(content)

    assert [problem.line for problem in refused.value.problems] == [2, 3]
    with pytest.raises(NotFound):
        desk.get("set")


def test_good_rows_are_kept_on_request_and_the_others_listed(desk: Desk) -> None:
    content = _jsonl(PAIR) + b"not json\n" + _jsonl({"prompt": "only"}, OTHER, {"prompt": "\0\ud800", "answer": "\0"})

    version = desk.upload(content, keep_good_rows=True)

    assert desk.rows(version) == [PAIR, OTHER]
    assert version.num_problems == 3
    assert [problem["line"] for problem in version.problems] == [2, 3, 5]
    assert "surrogate" in version.problems[2]["message"]
    assert service.view(desk.get("set@1")).problems[0].line == 2


def test_only_the_first_hundred_problems_are_kept_and_all_are_counted(desk: Desk) -> None:
    version = desk.upload(_jsonl(PAIR) + b"x\n" * 250, keep_good_rows=True)

    assert version.num_problems == 250
    assert len(version.problems) == 100
    with pytest.raises(InvalidSpec, match="more than 100 rows are broken"):
        desk.upload(_jsonl(PAIR) + b"x\n" * 250)


@pytest.mark.parametrize(
    ("content", "more", "reason"),
    [
        (b"[]", {"file_name": "a.json"}, "has no rows"),
        (b"prompt,answer\n", {"file_name": "a.csv"}, "has no rows"),
        (b"", {}, "is empty"),
        (b"x\n" * 60, {}, "50 rows are broken"),
        (b"x\n", {"keep_good_rows": True, "format": "sft"}, "1 row is broken"),
        (_jsonl({"text": "a"}), {}, "no format"),
        (_jsonl({"prompt": "a", "answer": "b"}), {"format": "sft", "keep_good_rows": False}, None),
        (_jsonl({"messages": []}), {"format": "verifiable"}, "has no prompt"),
    ],
)
def test_a_file_without_a_good_row_is_refused(
    desk: Desk, content: bytes, more: dict[str, Any], reason: str | None
) -> None:
    if reason is None:
        assert desk.rows(desk.upload(content, **more)) == [{"prompt": "a", "response": "b"}]
        return
    with pytest.raises(InvalidSpec, match=reason):
        desk.upload(content, **more)


def test_a_missing_upload_is_not_found(desk: Desk) -> None:
    spec = ImportSpec(name="set", object="0" * 64, file_name="a.jsonl")

    with desk.db.session() as session, pytest.raises(NotFound, match="upload"):
        service.import_file(session, spec, objects=desk.objects, now=NOW)


@pytest.mark.parametrize(
    ("ref", "error", "reason"),
    [
        ("nothing", NotFound, "there is no dataset 'nothing'; there are set"),
        ("set@7", NotFound, "no version 7; its newest is set@1"),
        ("set@99999999999999999999", InvalidSpec, "no dataset reference"),
        ("set@0", InvalidSpec, "no dataset reference"),
        ("../set", InvalidSpec, "no dataset reference"),
        ("", InvalidSpec, "no dataset reference"),
    ],
)
def test_a_reference_that_means_nothing_says_what_there_is(
    desk: Desk, ref: str, error: type[Exception], reason: str
) -> None:
    desk.upload(_jsonl(PAIR))

    with pytest.raises(error, match=reason):
        desk.get(ref)


def test_a_reference_is_resolved_to_a_file_and_its_hash(desk: Desk) -> None:
    version = desk.upload(_jsonl(PAIR))

    with desk.db.read() as session:
        resolved = service.resolve(session, "set", objects=desk.objects)

    assert resolved.kind == "file"
    assert resolved.sha256 == version.sha256
    assert Path(resolved.path).read_bytes() == b'{"prompt":"1+1","answer":"2"}\n'


def test_a_file_that_a_job_names_is_made_canonical_whatever_its_type(desk: Desk, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"question,answer\n1+1,2\n")
    stored = desk.objects.put_bytes(b"question,answer\n1+1,2\n")

    named = service.canonical_file(tmp_path / "a.csv", formats=("verifiable",), objects=desk.objects)
    sniffed = service.canonical_file(desk.objects.path(stored.sha256), formats=(), objects=desk.objects)

    assert named == sniffed
    assert Path(named.path).read_bytes() == b'{"prompt":"1+1","answer":"2"}\n'
    (tmp_path / "a.csv").write_bytes(b"question,answer\n,2\n")
    with pytest.raises(InvalidSpec, match=r"a\.csv: 1 row is broken; line 2"):
        service.canonical_file(tmp_path / "a.csv", formats=("verifiable",), objects=desk.objects)


def test_data_of_a_format_that_a_job_cannot_use_is_refused_with_the_way_out(desk: Desk, tmp_path: Path) -> None:
    desk.upload(_jsonl(PAIR))
    (tmp_path / "a.jsonl").write_bytes(_jsonl(PAIR))
    usable = ("unpaired", "preference")
    told = "is data of the format verifiable, but this job needs unpaired or preference; .* --set format=unpaired"

    with desk.db.read() as session, pytest.raises(InvalidSpec, match=f"set@1 {told}"):
        service.resolve(session, "set", formats=usable, objects=desk.objects)
    with pytest.raises(InvalidSpec, match=rf"a\.jsonl {told}"):
        service.canonical_file(tmp_path / "a.jsonl", formats=usable, objects=desk.objects)


def test_versions_are_listed_newest_first_and_paged(desk: Desk) -> None:
    for index in range(5):
        desk.upload(_jsonl({"prompt": str(index), "answer": "1"}))
    desk.upload(_jsonl(PAIR), name="other")

    with desk.db.read() as session:
        page, total = service.list_versions(session, name=None, limit=2, offset=1)
        own, own_total = service.list_versions(session, name="other", limit=10, offset=0)

    assert [version.ref for version in page] == ["set@5", "set@4"]
    assert total == 6
    assert [version.ref for version in own] == ["other@1"]
    assert own_total == 1


def test_rows_are_shown_page_by_page(desk: Desk) -> None:
    desk.upload(_jsonl(*({"prompt": str(index), "answer": "1"} for index in range(10))))

    with desk.db.read() as session:
        page = service.head(session, "set", objects=desk.objects, offset=8, limit=5)
        beyond = service.head(session, "set", objects=desk.objects, offset=50, limit=5)

    assert [row["prompt"] for row in page.rows] == ["8", "9"]
    assert (page.ref, page.num_rows, page.offset) == ("set@1", 10, 8)
    assert beyond.rows == []


def test_a_page_of_giant_rows_is_cut_short_but_never_empty(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.upload(_jsonl(*({"prompt": f"{index}" * 100, "answer": "1"} for index in range(5))))
    monkeypatch.setattr(service, "MAX_PAGE_BYTES", 300)

    with desk.db.read() as session:
        page = service.head(session, "set", objects=desk.objects, offset=0, limit=5)
        monkeypatch.setattr(service, "MAX_PAGE_BYTES", 1)
        smallest = service.head(session, "set", objects=desk.objects, offset=0, limit=5)

    assert len(page.rows) == 2
    assert len(smallest.rows) == 1


def test_a_generated_version_is_reproducible_and_remembers_its_parameters(desk: Desk) -> None:
    version = desk.generate(num_rows=20, seed=7)

    assert desk.generate(num_rows=20, seed=7).id == version.id
    assert desk.generate(num_rows=20, seed=8).ref == "sums@2"
    assert version.source["generator"] == "arithmetic"
    assert version.source["params"]["seed"] == 7
    assert all(row.keys() == {"prompt", "answer"} for row in desk.rows(version))


def test_a_generated_sft_version_has_prompts_and_responses(desk: Desk) -> None:
    version = desk.generate(num_rows=5, format="sft")

    assert version.format == "sft"
    assert all(row.keys() == {"prompt", "response"} for row in desk.rows(version))


def test_a_generator_writes_pairs_and_labelled_answers(desk: Desk) -> None:
    pairs = desk.rows(desk.generate("pairs", num_rows=4, format="preference"))
    labelled = desk.rows(desk.generate("labelled", num_rows=4, format="unpaired"))

    assert [row["label"] for row in labelled] == [True, False, True, False]
    for pair, single in zip(pairs, labelled, strict=True):
        left, _, right = pair["prompt"].removeprefix("What is ").removesuffix("?").split()
        assert int(pair["chosen"]) == int(left) + int(right) != int(pair["rejected"])
        said = pair["chosen"] if single["label"] else pair["rejected"]
        assert (single["prompt"], single["completion"]) == (pair["prompt"], said)


def test_excluded_versions_are_pinned_and_none_of_their_prompts_appears(desk: Desk) -> None:
    test = desk.generate("test", num_rows=60)
    sft = desk.generate("sft", num_rows=10, seed=1, exclude=["test"], format="sft")

    train = desk.generate("train", num_rows=5, seed=2, exclude=["test", "sft@1"])

    prompts = [{row["prompt"] for row in desk.rows(version)} for version in (test, sft, train)]
    assert len(set.union(*prompts)) == 75
    assert train.source["params"]["exclude"] == ["test@1", "sft@1"]


def test_prompts_of_conversations_are_excluded_too(desk: Desk) -> None:
    desk.upload(
        _jsonl({"messages": [{"role": "user", "content": "What is 0 + 0?"}, {"role": "assistant", "content": "0"}]}),
        name="chats",
    )
    zero = {"min": 0, "max": 0}

    with pytest.raises(InvalidSpec, match="once 1 excluded"):
        desk.generate(num_rows=1, left=zero, right=zero, exclude=["chats"])


@pytest.mark.parametrize(
    ("generator", "params", "error"),
    [
        ("arithmetics", {}, InvalidSpec),
        ("arithmetic", {"num_row": 5}, InvalidSpec),
        ("arithmetic", {"exclude": ["missing"]}, NotFound),
        ("arithmetic", {"num_rows": 101, "max_digits": 1}, InvalidSpec),
    ],
)
def test_a_generation_that_cannot_be_done_leaves_no_version(
    desk: Desk, generator: str, params: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        desk.generate(generator=generator, **params)

    with desk.db.read() as session:
        assert service.list_versions(session, name=None, limit=10, offset=0) == ([], 0)


def test_versions_that_are_added_at_the_same_time_all_get_numbers(desk: Desk) -> None:
    errors: list[Exception] = []
    barrier = threading.Barrier(6)

    def work(index: int) -> None:
        stored = desk.objects.put_bytes(_jsonl({"prompt": str(index % 5), "answer": "1"}))
        staged = staging.from_upload(
            ImportSpec(name="set", object=stored.sha256, file_name="a.jsonl"), objects=desk.objects
        )
        barrier.wait(10)
        try:
            with desk.db.session() as session:
                service.add(session, staged, now=NOW)
        except Exception as error:  # noqa: BLE001 - whatever went wrong is what the test shows
            errors.append(error)

    threads = [threading.Thread(target=work, args=(index,)) for index in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert errors == []
    with desk.db.read() as session:
        versions, _ = service.list_versions(session, name="set", limit=10, offset=0)
    numbers = sorted(version.version for version in versions)
    assert numbers == list(range(1, len(numbers) + 1))
    assert len({version.sha256 for version in versions}) == 5
