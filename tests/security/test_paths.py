"""Every name that becomes a path, in every spelling of a way out: nothing is read, written or named outside."""

import os
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest
from sqlalchemy import select

from finery.api.app import create_app
from finery.jobs.tables import Checkpoint
from tests.security.conftest import Live, Offline, begin, fetch, finish, operations

CANARY = "canary-that-nobody-may-read"
UP = "../" * 12
OUT = [
    "../canary.txt",
    "..",
    ".",
    "../",
    "..%2fcanary.txt",
    "%2e%2e%2fcanary.txt",
    "%252e%252e%252fcanary.txt",
    "%25252e%25252e%25252fcanary.txt",
    "..\\canary.txt",
    "..%5ccanary.txt",
    "..%255ccanary.txt",
    "....//canary.txt",
    "..;/canary.txt",
    "%c0%ae%c0%ae%c0%afcanary.txt",
    "%e0%80%ae%e0%80%ae/canary.txt",
    "\N{TWO DOT LEADER}/canary.txt",
    "\N{FULLWIDTH FULL STOP}\N{FULLWIDTH FULL STOP}\N{FULLWIDTH SOLIDUS}canary.txt",
    "\N{ONE DOT LEADER}\N{ONE DOT LEADER}\N{DIVISION SLASH}canary.txt",
    "canary.txt\0.json",
    "canary.txt%00",
    "x/../../canary.txt",
    f"{UP}etc/passwd",
    f"{UP}etc/passwd\0",
    "/etc/passwd",
    "//etc/passwd",
    "~/.ssh/id_rsa",
    "~root/.bashrc",
    "file:///etc/passwd",
    "C:\\Windows\\win.ini",
    "\\\\host\\share",
    "link-out",
    "link-out/passwd",
    "a" * 5000,
    "-rf",
    "$(id)",
    "`id`",
    "; id",
    "| id",
    "\n",
]


PLAIN = (
    "-rf",
    "$(id)",
    "`id`",
    "; id",
    "| id",
    "..;/canary.txt",
    "%c0%ae%c0%ae%c0%afcanary.txt",
    "%e0%80%ae%e0%80%ae/canary.txt",
    "\N{ONE DOT LEADER}\N{ONE DOT LEADER}\N{DIVISION SLASH}canary.txt",
)
"""Odd, but no way out: the name of a file within a tree."""


class Outer:
    """A server whose home lies beside a file that is none of its business."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.canary = folder / "canary.txt"
        self.canary.write_text(CANARY)
        home = folder / "home"
        home.mkdir()
        self.live = Live(home)
        for place in (home, home / "objects", home / "runs"):
            place.mkdir(exist_ok=True)
            (place / "link-out").symlink_to("/etc")

    def outside(self) -> dict[str, float]:
        """Every file beside the home, with its age."""
        home = self.folder / "home"
        return {str(path): path.stat().st_mtime for path in self.folder.rglob("*") if home not in (path, *path.parents)}


@pytest.fixture(scope="module")
def outer(tmp_path_factory: pytest.TempPathFactory, offline: Offline) -> Iterator[Outer]:
    made = Outer(tmp_path_factory.mktemp("outer"))
    yield made
    made.live.stop()


@pytest.fixture(autouse=True)
def nothing_outside_is_touched(outer: Outer) -> Iterator[None]:
    before = outer.outside()
    yield
    assert outer.outside() == before
    assert outer.canary.read_text() == CANARY


def assert_refused(answer: httpx.Response, name: str) -> None:
    assert 400 <= answer.status_code < 500, (name, answer.status_code, answer.text[:300])
    assert CANARY not in answer.text
    assert "root:" not in answer.text


def ask(outer: Outer, verb: str, path: str, **options: object) -> httpx.Response:
    """The path goes out as it is written, with nothing folded on the way."""
    url = httpx.URL(outer.live.url).copy_with(raw_path=path.encode("ascii"))
    return fetch(verb, url, headers=outer.live.authorization, timeout=30, **options)  # type: ignore[arg-type]


def spelled(name: str) -> set[str]:
    """How a name may stand in a request line: encoded whole, with its slashes, or as it is where that is possible."""
    found = {quote(name, safe=""), quote(name, safe="/%;")}
    return {text for text in found if text.strip("/")}


@pytest.mark.parametrize("name", OUT)
def test_names_in_the_path_of_a_request(outer: Outer, name: str) -> None:
    """Of every route that has one: versions, recipes, secrets, objects, jobs."""
    templates = outer.live.app.openapi()["paths"]
    tried = 0
    for template, verbs in templates.items():
        for parameter in ("ref", "name", "sha256", "job_id", "verb"):
            if f"{{{parameter}}}" not in template:
                continue
            for text in spelled(name):
                path = template.replace(f"{{{parameter}}}", text)
                for left in ("ref", "name", "sha256", "job_id", "verb"):
                    path = path.replace(f"{{{left}}}", "1")
                for verb in verbs:
                    answer = ask(outer, verb.upper(), path, **({"json": {}} if verb != "get" else {}))
                    tried += 1
                    assert CANARY not in answer.text
                    assert "root:" not in answer.text
                    assert answer.status_code < 500, (verb, path, answer.text)
    assert tried > 20


@pytest.mark.parametrize("name", [name for name in OUT if not name.startswith("link-out")])
def test_names_in_the_body_of_a_request(outer: Outer, name: str) -> None:
    client = outer.live
    stored = client.client.upload(outer.folder / "home" / "token")
    job = {"name": "a", "kind": "evaluate", "task": {"model": {"base": name}, "benchmark": {"name": "gsm8k"}}}
    train = {"algorithm": "sft", "model": {"base": "tiny-char"}, "data": {"train": name}, "optim": {"steps": 1}}
    bodies = [
        ("PUT", f"/api/secrets/{quote(name, safe='')}", {"value": "x"}),
        ("POST", "/api/trees", {"files": {name: stored}}),
        ("POST", "/api/trees", {"files": {"config.json": name}}),
        ("POST", "/api/datasets/generate", {"generator": "arithmetic", "name": name}),
        ("POST", "/api/datasets/generate", {"generator": name, "name": "a"}),
        ("POST", "/api/datasets/generate", {"generator": "arithmetic", "name": "a", "params": {"exclude": [name]}}),
        ("POST", "/api/datasets/import", {"name": name, "object": stored, "file_name": "a.jsonl"}),
        ("POST", "/api/datasets/import", {"name": "a", "object": name, "file_name": "a.jsonl"}),
        ("POST", "/api/datasets/import", {"name": "a", "object": stored, "file_name": name}),
        ("POST", "/api/jobs", {"spec": {"name": "a", "kind": "train", "task": train}}),
        ("POST", "/api/jobs", {"spec": {"name": "a", "kind": "train", "task": train, "after": [name]}}),
        ("POST", "/api/pipelines", {"spec": {"kind": "pipeline", "name": name, "jobs": [job]}}),
    ]
    for prefix in ("", "job:", "job:1/step:", "object:", "tree:", "modelscope:", "a/", "a/b@"):
        base = f"{prefix}{name}/last" if prefix == "job:" else prefix + name
        task = {**job["task"], "model": {"base": base}}  # type: ignore[dict-item]
        bodies.append(("POST", "/api/jobs", {"spec": {**job, "task": task}}))
    for verb, path, body in bodies:
        if path == "/api/trees" and name in PLAIN and name in body["files"]:  # type: ignore[operator]
            continue
        assert_refused(ask(outer, verb, path, json=body), name)


@pytest.mark.parametrize("name", OUT)
def test_the_name_of_an_uploaded_file_is_a_label(outer: Outer, name: str) -> None:
    body = (
        b'--b\r\nContent-Disposition: form-data; name="file"; filename="'
        + name.replace("\n", "").encode()
        + b'"\r\n\r\nsame content\r\n--b--\r\n'
    )
    headers = {**outer.live.authorization, "Content-Type": "multipart/form-data; boundary=b"}
    answer = fetch("POST", f"{outer.live.url}/api/objects", content=body, headers=headers)
    assert answer.status_code in (201, 400)
    named = [path for path in outer.live.files() if path.name in ("canary.txt", "passwd")]
    assert named == []


@pytest.mark.parametrize("name", OUT)
def test_pages_serve_no_file_of_the_machine(outer: Outer, name: str, tmp_path: Path) -> None:
    for prefix in ("/", "/assets/", "/runs/"):
        for text in spelled(name):
            answer = ask(outer, "GET", prefix + text)
            assert CANARY not in answer.text
            assert "root:" not in answer.text
            assert answer.status_code in (200, 404, 503), (prefix, name, answer.status_code)


def test_a_link_in_the_folder_of_the_pages_is_not_followed_out(outer: Outer, tmp_path: Path) -> None:
    (tmp_path / "assets").mkdir()
    (tmp_path / "index.html").write_text("<html>the page</html>")
    (tmp_path / "assets" / "own.js").write_text("own")
    (tmp_path / "assets" / "out.js").symlink_to(outer.canary)
    app = create_app(outer.live.settings, db=outer.live.db, web=tmp_path)
    from fastapi.testclient import TestClient

    with TestClient(app, base_url="http://127.0.0.1") as client:
        assert client.get("/assets/own.js").text == "own"
        assert client.get("/assets/out.js").text == "<html>the page</html>"


@pytest.mark.parametrize("name", [*OUT, "samples/rollouts.jsonl"])
def test_a_run_that_points_at_files_elsewhere_is_shown_without_them(outer: Outer, name: str) -> None:
    """What a run writes is not trusted with the server's eyes: samples, artifacts, checkpoints."""
    job_id, run = begin(outer.live)
    (run.dir.samples / "rollouts.jsonl").symlink_to(outer.canary)
    (run.dir.path / "link-out").symlink_to("/etc")
    run.log({"loss": 1.0}, 1)
    run.events.emit("sample", step=1, path=name, offset=0, num_records=5)
    run.events.emit("artifact", name=name[:100], path=name)
    run.events.emit("checkpoint", step=1, path=name, num_bytes=1)
    run.events.emit("gradients", step=1, path=name, offset=0)
    finish(outer.live, run)

    for path in ("", "/rollouts", "/events", "/logs", "/series", "/metrics"):
        answer = ask(outer, "GET", f"/api/jobs/{job_id}{path}")
        assert answer.status_code < 500, (path, answer.text)
        assert CANARY not in answer.text
        assert "root:" not in answer.text
    job = ask(outer, "GET", f"/api/jobs/{job_id}").json()
    with outer.live.db.read() as session:
        kept = session.scalars(select(Checkpoint.path).where(Checkpoint.job_id == job_id)).all()
    inside = str(run.dir.path.resolve())
    assert [path for path in kept if not str(Path(path).resolve()).startswith(f"{inside}/")] == []
    assert job["state"] == "completed", job["cause"]


def test_the_routes_with_names_are_the_ones_that_are_tried(outer: Outer) -> None:
    """A route with a new kind of name must be added above."""
    known = {"ref", "name", "sha256", "job_id", "verb", "share_id", "cursor", "checkpoint_id"}
    found = {
        parameter["name"]
        for verbs in outer.live.app.openapi()["paths"].values()
        for operation in verbs.values()
        for parameter in operation.get("parameters", ())
        if parameter["in"] == "path"
    }
    assert found <= known
    assert len(operations(outer.live)) > 40
    assert os.path.islink(outer.folder / "home" / "link-out")
