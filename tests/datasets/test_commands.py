"""`finery data ...` against the real routes."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from fastapi.testclient import TestClient
from typer.testing import CliRunner

from finery import migrations
from finery.core import parquet
from finery.core.client import Client
from finery.core.clock import FakeClock
from finery.core.db import Database
from finery.core.errors import FineryError, InvalidSpec, NotFound, Unavailable
from finery.core.objects import ObjectStore
from finery.datasets import commands
from finery.datasets.routes import router


class _Client:
    """Speaks to the routes in this process."""

    def __init__(self, http: TestClient, objects: ObjectStore):
        self._http = http
        self._objects = objects

    def get(self, path: str, **params: Any) -> Any:
        return self._answer(self._http.get(path, params={k: v for k, v in params.items() if v is not None}))

    def post(self, path: str, json: Any = None) -> Any:
        return self._answer(self._http.post(path, json=json))

    def upload(self, path: Path) -> str:
        return self._objects.put_file(path).sha256

    def download(self, path: str, target: Path) -> None:
        real = Client("http://testserver", "")
        real._http = self._http
        real.download(path, target)

    def _answer(self, response: Any) -> Any:
        body = response.json()
        if response.is_success:
            return body
        raise {404: NotFound, 422: InvalidSpec}[response.status_code](str(body))


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    app = FastAPI()
    app.include_router(router)
    app.state.db = Database(f"sqlite:///{tmp_path / 'test.db'}")
    app.state.clock = FakeClock()
    app.state.objects = ObjectStore(tmp_path / "objects")
    migrations.upgrade(app.state.db, lock=tmp_path / "lock")

    def render(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, FineryError)
        return JSONResponse({"message": str(error)}, error.status)

    app.add_exception_handler(FineryError, render)

    @contextmanager
    def connect() -> Iterator[_Client]:
        yield _Client(TestClient(app), app.state.objects)

    monkeypatch.setattr(commands, "connect", connect)

    def run(*arguments: str) -> str:
        result = CliRunner().invoke(commands.app, list(arguments), catch_exceptions=True)
        if result.exception is not None:
            raise result.exception
        return result.stdout

    yield run
    app.state.db.close()


def test_a_generated_set_is_listed_and_shown(cli: Any) -> None:
    made = json.loads(cli("generate", "arithmetic", "--name", "sums", "-s", "num_rows=7", "-s", "left.min=1", "-s", "left.max=5", "--json"))  # fmt: skip  # noqa: E501

    assert made["ref"] == "sums@1"
    assert made["source"]["params"]["left"] == {"min": 1, "max": 5}
    assert "sums@1" in cli("list")
    assert json.loads(cli("list", "--json"))["total"] == 1
    assert json.loads(cli("show", "sums", "--json")) == made
    assert "7 rows" in cli("show", "sums@1")
    assert len(json.loads(cli("head", "sums", "-l", "3", "--json"))["rows"]) == 3
    assert "sums@1 has 7 rows" in cli("head", "sums", "--offset", "5")


def test_a_file_is_imported_and_its_broken_rows_reported(cli: Any, tmp_path: Path) -> None:
    file = tmp_path / "train.jsonl"
    file.write_text('{"prompt": "1+1", "answer": 2}\nbroken\n')

    with pytest.raises(InvalidSpec, match="line 2"):
        cli("import", str(file), "--name", "sums")
    shown = cli("import", str(file), "--name", "sums", "--keep-good-rows")

    assert "sums@1" in shown
    assert "rows left out: 1" in shown
    assert "not valid JSON" in shown


def test_the_generators_are_listed_with_their_parameters(cli: Any) -> None:
    assert "num_rows" in cli("generators")
    assert [entry["name"] for entry in json.loads(cli("generators", "--json"))["generators"]] == [
        "advice",
        "arithmetic",
        "gym",
    ]


def test_a_version_is_exported_whole_as_lines_or_for_verl(cli: Any, tmp_path: Path) -> None:
    cli("generate", "arithmetic", "--name", "sums", "-s", "num_rows=7")
    rows = json.loads(cli("head", "sums", "--json"))["rows"]

    cli("export", "sums@1", "--out", str(tmp_path / "sums.jsonl"))
    said = cli("export", "sums", "--to", "verl", "--out", str(tmp_path / "sums.parquet"))

    assert [json.loads(line) for line in (tmp_path / "sums.jsonl").read_text().splitlines()] == rows
    found = pyarrow.parquet.read_table(tmp_path / "sums.parquet").to_pylist()
    assert [parquet.whole_row(row["extra_info"]) for row in found] == rows
    assert {row["data_source"] for row in found} == {"sums@1"}
    assert "7 rows of sums@1" in said


def test_what_cannot_be_exported_leaves_no_file(cli: Any, tmp_path: Path) -> None:
    cli("generate", "arithmetic", "--name", "pairs", "-s", "num_rows=3", "-s", "format=preference")
    out = tmp_path / "out"
    out.mkdir()

    for arguments, complaint in {
        ("pairs", "--to", "verl", "--out", str(out / "a.parquet")): "verl trains on",
        ("pairs", "--to", "mars", "--out", str(out / "a")): "--to mars",
        ("pairs", "--out", str(out / "a.parquet")): r"name it a\.jsonl, or add --to verl",
        ("pairs", "--out", str(out / "a.csv")): r"name it a\.jsonl$",
        ("pairs", "--to", "verl", "--out", str(out / "a.jsonl")): r"name it a\.parquet, or add --to jsonl",
        ("pairs", "--out", str(out / "deeper" / "a.jsonl")): "there is no folder",
    }.items():
        with pytest.raises(InvalidSpec, match=complaint):
            cli("export", *arguments)
    with pytest.raises(NotFound):
        cli("export", "missing", "--out", str(out / "a.jsonl"))
    with pytest.raises(Unavailable, match="cannot write /proc: "):
        cli("export", "pairs", "--out", "/proc/a.jsonl")

    assert list(out.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("import", "missing.jsonl", "--name", "sums"), InvalidSpec),
        (("show", "missing"), NotFound),
        (("head", "a b"), InvalidSpec),
        (("generate", "arithmetic", "--name", "Bad Name"), InvalidSpec),
        (("generate", "arithmetic", "--name", "sums", "-s", "num_rows"), InvalidSpec),
    ],
)
def test_what_cannot_be_done_is_an_error_that_the_root_renders(
    cli: Any, arguments: tuple[str, ...], error: type[Exception]
) -> None:
    with pytest.raises(error):
        cli(*arguments)


def test_an_empty_list_says_how_to_begin(cli: Any) -> None:
    assert "finery data generate" in cli("list")
