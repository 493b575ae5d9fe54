"""What runs, datasets and models say is text: hostile strings run nothing on the real pages, shown as written."""

from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest
from playwright.sync_api import Browser, Page, expect

from finery.evaluation.results import StoredResult, write_result
from finery.jobs.tables import Attempt, Job
from tests.security.conftest import Live, begin, finish, offline  # noqa: F401 - the fixture

IMG = '<img src=x onerror="window.hacked=1">'
HOSTILE = [
    IMG,
    "<script>window.hacked=1</script>",
    '"><svg onload=window.hacked=1>',
    "<iframe srcdoc='<script>parent.hacked=1</script>'></iframe>",
    "<a href='javascript:window.hacked=1'>click</a>",
    "javascript:window.hacked=1",
    "[click](javascript:window.hacked=1)",
    "{{constructor.constructor('window.hacked=1')()}}",
    "${window.hacked=1}",
    "<style>body{display:none}</style>",
    "<base href='http://evil.example/'>",
    "<form action='http://evil.example/'><input name=a></form>",
    "\N{RIGHT-TO-LEFT OVERRIDE}gnp.exe\N{POP DIRECTIONAL FORMATTING}",
    "&lt;img src=x onerror=window.hacked=1&gt;",
]
ESCAPES = (
    "\x1b]0;owned\x07\x1b]8;;javascript:window.hacked=1\x07link\x1b]8;;\x07\x1b[2J\x1b[H\x1b[31mred\x1b[0m"
    "\x1b]52;c;aGFja2Vk\x07\x1bP$q\x1b\\\x9b31m\x07\x08\x08\n"
)
TAG = "<img/src=x/onerror=window.hacked=1>"
METRIC = "loss<img src=x onerror=window.hacked=1>"


class Pages:
    """A logged-in browser that notices what must not happen."""

    def __init__(self, browser: Browser, server: Live):
        self.context = browser.new_context(base_url=server.url, locale="en-GB", viewport={"width": 1280, "height": 900})
        self.page: Page = self.context.new_page()
        self.wrong: list[str] = []
        self._server = server
        self.page.on("dialog", lambda dialog: (self.wrong.append(f"dialog {dialog.message}"), dialog.dismiss()))
        self.page.on("pageerror", lambda error: self.wrong.append(f"error {error}"))
        self.page.on("popup", lambda page: self.wrong.append(f"popup {page.url}"))
        self.page.on("console", lambda said: self._hear(said.text))
        self.page.on("request", lambda request: self._see(request.url))
        self.page.on("response", lambda answer: self._check(answer.url, answer.headers))
        self.page.goto(server.client.post("/login-codes")["link"])
        self.page.wait_for_url(f"{server.url}/")

    def assert_harmless(self) -> None:
        """Nothing ran, nothing was asked for, and the document holds none of the elements."""
        assert self.wrong == []
        assert self.page.evaluate("window.hacked") is None
        found = self.page.evaluate(
            """() => [...document.querySelectorAll("*")].filter((item) =>
                 ["IFRAME", "BASE", "OBJECT", "EMBED"].includes(item.tagName)
                 || (item.tagName === "SCRIPT" && !item.src)
                 || (item.tagName === "IMG" && item.getAttribute("src") === "x")
                 || (item.tagName === "FORM" && item.action.includes("evil"))
                 || [...item.attributes].some((one) => /^on/.test(one.name)
                   || (/href|src|action/.test(one.name) && /^\\s*javascript:/i.test(one.value))))
               .map((item) => item.outerHTML.slice(0, 200))"""
        )
        assert found == []
        assert self.page.evaluate("getComputedStyle(document.body).display") != "none"

    def _hear(self, text: str) -> None:
        if "Content Security Policy" in text or "hacked" in text:
            self.wrong.append(f"console {text}")

    def _see(self, url: str) -> None:
        if not url.startswith((self._server.url, "data:", "blob:", self._server.url.replace("http", "ws"))):
            self.wrong.append(f"request {url}")
        if url.endswith("/x"):
            self.wrong.append(f"image {url}")

    def _check(self, url: str, headers: dict[str, str]) -> None:
        if url.startswith(self._server.url) and "content-security-policy" not in headers:
            self.wrong.append(f"no policy {url}")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, offline: object) -> Iterator[Live]:  # noqa: F811
    made = Live(tmp_path_factory.mktemp("hostile"))
    seed_run(made)
    seed_evaluation(made)
    seed_dataset(made)
    yield made
    made.stop()


@pytest.fixture
def pages(browser: Browser, server: Live) -> Iterator[Pages]:
    made = Pages(browser, server)
    yield made
    made.assert_harmless()
    made.context.close()


def seed_run(server: Live) -> None:
    job_id, run = begin(server, "hostile", task={"project": IMG, "config": {IMG: IMG, "list": HOSTILE}}, tags=[IMG])
    assert job_id == 1
    server.client.patch("/jobs/1", {"notes": "\n".join(HOSTILE), "add_tags": [TAG]})
    run.status("running", IMG)
    for step in range(20):
        run.log({METRIC: 1 / (step + 1), "loss": float("nan") if step == 5 else 1.0 * step}, step)
    for text in HOSTILE:
        run.alert(text, text, severity="error", step=3)
        run.note(text, "warning")
    rollouts = [
        {
            "prompt": text,
            "completion": f"{text}\n{ESCAPES}",
            "answer": text,
            "reward": 1.0,
            "rewards": {IMG: 1.0},
            "advantage": 0.0,
            "length": 3,
            "is_truncated": False,
            "group": 0,
            "model": text,
            "tokens": [text, ESCAPES],
            "entropy": [1.0, 2.0],
        }
        for text in HOSTILE
    ]
    run.samples("rollouts", rollouts, 3)
    run.artifact(IMG, run.dir.samples / "rollouts.jsonl")
    run.dir.stdout.write_text("first line\n" + "\n".join(HOSTILE) + "\n" + ESCAPES + "last line\n")
    surroundings = {"packages": {IMG: IMG}, "hardware": {"cpu": IMG, IMG: IMG}, "code": {"branch": IMG, "diff": IMG}}
    (run.dir.path / "provenance.json").write_bytes(orjson.dumps(surroundings))
    finish(server, run, code=1, cause=f"ValueError: {IMG}")


def seed_evaluation(server: Live) -> None:
    """Two finished evaluations whose problems, answers and model are hostile."""
    for name in ("baseline", "candidate"):
        job_id, run = begin(server, name)
        answers = [
            {
                "index": index,
                "prompt": text,
                "completion": f"{text}{ESCAPES}",
                "target": text,
                "answer": text,
                "correct": name == "candidate",
            }
            for index, text in enumerate(HOSTILE)
        ]
        run.samples("evaluation", answers, 0)
        result = StoredResult(
            benchmark=IMG,
            params={IMG: IMG},
            model=IMG,
            data=None,
            data_sha256=None,
            num_samples=len(HOSTILE),
            num_correct=len(HOSTILE) if name == "candidate" else 0,
            num_unfinished=0,
            accuracy=1.0 if name == "candidate" else 0.0,
            interval=(0.0, 1.0),
        )
        write_result(run.dir.path, result)
        finish(server, run)
        with server.db.session() as session:
            job = session.get_one(Job, job_id)
            job.kind = "evaluate"
            assert session.query(Attempt).filter_by(job_id=job_id).one()


def seed_dataset(server: Live) -> None:
    path = Path(server.settings.home) / "hostile.jsonl"
    path.write_bytes(b"".join(orjson.dumps({"prompt": text, "answer": text}) + b"\n" for text in HOSTILE) + b"{bad\n")
    body = {
        "name": "hostile",
        "object": server.client.upload(path),
        "file_name": '"><img src=x onerror=window.hacked=1>.jsonl',
        "keep_good_rows": True,
    }
    assert server.client.post("/datasets/import", body)["num_rows"] == len(HOSTILE)


@pytest.mark.parametrize(
    "path", ["/", "/runs", "/runs?group=task.project", "/compare?runs=1,2,3", "/datasets", "/launch"]
)
def test_lists_show_text(pages: Pages, path: str) -> None:
    pages.page.goto(path)
    pages.page.wait_for_load_state("networkidle")

    assert pages.page.locator("body").inner_text()


def test_a_run_says_what_it_was_told(pages: Pages) -> None:
    pages.page.goto("/runs/1")
    expect(pages.page.get_by_text(f"ValueError: {IMG}").first).to_be_visible()
    pages.page.wait_for_load_state("networkidle")
    shown = pages.page.locator("body").inner_text()
    for text in HOSTILE[:4]:
        assert text in shown
    assert TAG in shown


def test_a_chart_with_a_hostile_name(pages: Pages) -> None:
    """Pointed at, too: charts draw their own tooltip."""
    pages.page.goto("/runs/1?tab=charts")
    expect(pages.page.get_by_text(METRIC).first).to_be_visible()
    for box in pages.page.locator("[data-testid^=chart-]").all():
        box.scroll_into_view_if_needed()
        place = box.bounding_box()
        if place:
            for part in (0.3, 0.5, 0.8):
                pages.page.mouse.move(place["x"] + place["width"] * part, place["y"] + place["height"] / 2)
                pages.page.wait_for_timeout(100)
    pages.assert_harmless()


def test_rollouts_are_text(pages: Pages) -> None:
    pages.page.goto("/runs/1?tab=samples")
    row = pages.page.get_by_test_id("sample-row")
    expect(row.first).to_contain_text(IMG)
    assert row.count() == len(HOSTILE)
    for index, text in enumerate(HOSTILE):
        assert text in (row.nth(index).text_content() or "")
        row.nth(index).click()
        detail = pages.page.get_by_test_id("rollout-detail")
        expect(detail).to_have_attribute("data-index", str(index))
        assert (detail.text_content() or "").count(text) >= 4
        pages.page.locator(".token").first.hover()
    pages.assert_harmless()


def test_a_log_is_a_program_s_output_and_not_a_page_s(pages: Pages) -> None:
    pages.page.goto("/runs/1?tab=logs")
    view = pages.page.get_by_test_id("log-view")
    expect(view).to_contain_text("last line")
    expect(view).to_contain_text("first line")
    shown = view.text_content() or ""
    for text in HOSTILE:
        assert text in shown
    assert "\x1b" not in shown
    assert "owned" not in pages.page.title()


@pytest.mark.parametrize("tab", ["checkpoints", "system"])
def test_the_other_tabs_show_text(pages: Pages, tab: str) -> None:
    pages.page.goto(f"/runs/1?tab={tab}")
    pages.page.wait_for_load_state("networkidle")
    expect(pages.page.get_by_test_id("run-header")).to_be_visible()


def test_answers_of_a_model_are_text(pages: Pages) -> None:
    pages.page.goto("/runs/2?tab=samples")
    expect(pages.page.get_by_text(IMG).first).to_be_visible()
    pages.page.goto("/evaluate")
    expect(pages.page.get_by_text(IMG).first).to_be_visible()


def test_rows_of_a_dataset_are_text(pages: Pages) -> None:
    pages.page.goto("/datasets/hostile@1")
    expect(pages.page.get_by_text(IMG).first).to_be_visible()
    shown = pages.page.locator("body").inner_text()
    assert "<script>window.hacked=1</script>" in shown


@pytest.mark.parametrize("text", [IMG, "javascript:window.hacked=1"])
def test_what_an_address_says_is_text_too(pages: Pages, text: str) -> None:
    """A link to this machine that somebody else made."""
    for path in ("/runs?query={}", "/runs/{}", "/datasets/{}", "/runs/1?tab={}", "/compare?runs={}", "/login#code={}"):
        pages.page.goto(path.format(pages.page.evaluate("(text) => encodeURIComponent(text)", text)))
        pages.page.wait_for_load_state("networkidle")
        pages.assert_harmless()
