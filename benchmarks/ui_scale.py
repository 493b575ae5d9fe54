"""Does the web UI stay quick at size? `python benchmarks/ui_scale.py [--seconds 30] [--runs 10000] [--steps 1000000]`

A real `finery up`, real Chromium, SQLite: the run table with 10,000 runs, the charts of a run of 60 metrics x 1,000,000
steps that goes on (5 rows a second through the real worker), and 100 clients of its live stream beside one that reads
nothing. Needs the built UI (`make web`) and `chromium`. Prints a table with the targets, what could not be undercut and
the ratio to it, and, as its last line, a JSON object. A long task is what keeps the browser from answering for more
than 50 ms; 0 means that there was none.
"""

import argparse
import json
import multiprocessing
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import crowd
import psutil
import scale_home
from playwright.sync_api import Browser, Page, sync_playwright

from finery.api import static
from finery.api.feeds import POLL_SECONDS
from finery.core.client import Client, locate
from finery.core.settings import Settings
from finery.worker.loop import TICK_SECONDS as WORKER_TICK_SECONDS

CLIENTS = 100
PAUSE_SECONDS = 0.2
TARGETS = {
    "runs_first_rows_seconds": 2.0,
    "runs_live_longest_task_ms": 200.0,
    "first_chart_seconds": 2.0,
    "live_longest_task_ms": 200.0,
    "ws_p99_seconds": 1.0,
    "ws_slow_client_rss_growth_mb": 50.0,
}
QUERY = "tag:part-3 reward_mean>0.5"
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
WATCH = """
window.__tasks = []; window.__frames = []; window.__keys = [];
const watch = (type, take, options) => new PerformanceObserver((found) => found.getEntries().forEach(take))
  .observe({ type, buffered: true, ...options });
watch("longtask", (entry) => __tasks.push(entry.duration));
watch("long-animation-frame", (entry) => __frames.push({ ms: entry.duration, scripts: entry.scripts
  .map((s) => [Math.round(s.duration), s.invoker, s.sourceFunctionName, s.sourceURL.split("/").at(-1)].join(" ")) }));
watch("event", (entry) => entry.name.startsWith("key") && __keys.push(entry.duration), { durationThreshold: 16 });
"""
HAS_DRAWN = """() => [...document.querySelectorAll('[data-testid^="chart-"] canvas')].some((canvas) => {
  const seen = canvas.width && canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
  return seen && seen.some((part) => part !== 0);
})"""

Figures = dict[str, float]


def main() -> None:
    """Fill a home, look at it, print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=30.0, help="how long the charts are watched live")
    parser.add_argument("--runs", type=int, default=scale_home.NUM_RUNS)
    parser.add_argument("--steps", type=int, default=scale_home.NUM_STEPS)
    wanted = parser.parse_args()
    if static.find() is None:
        raise SystemExit("the web UI is not built; run `make web`")
    chromium = shutil.which("chromium")
    if chromium is None:
        raise SystemExit("chromium is not on the PATH; install it")
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(home=Path(folder) / "home")
        settings.home.mkdir()
        began = time.perf_counter()
        run_dir = scale_home.fill(settings, wanted.runs, wanted.steps)
        size = sum(path.stat().st_size for path in settings.home.glob("finery.db*")) / 1e6
        filled = time.perf_counter() - began
        numbers = f"{wanted.runs:,} runs, {wanted.steps:,} steps x {len(scale_home.METRICS)} metrics"
        print(f"{numbers}: stored in {filled:.0f} s, {size:.0f} MB")
        with _server(settings) as (client, process), _writer(run_dir.events / "rank0.jsonl", wanted.steps):
            figures = _look(chromium, client, int(run_dir.path.parent.name), wanted.seconds)
            figures |= _crowd(client, locate(settings)[1], int(run_dir.path.parent.name), _api(process))
    _report(figures)


@contextmanager
def _server(settings: Settings) -> Iterator[tuple[Client, psutil.Process]]:
    environment = {**os.environ, "FINERY_HOME": str(settings.home)}
    argv = [sys.executable, "-m", "finery.cli.main", "up", "--port", "0"]
    with open(settings.home / "up.log", "wb") as log:
        process = subprocess.Popen(argv, env=environment, stdout=log, stderr=subprocess.STDOUT)
    try:
        deadline = time.monotonic() + 60
        while not settings.server_file.exists():
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"the server did not come up: {(settings.home / 'up.log').read_text()}")
            time.sleep(0.1)
        client = Client(*locate(settings))
        yield client, psutil.Process(process.pid)
        client.close()
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=30)


@contextmanager
def _writer(stream: Path, first_step: int) -> Iterator[None]:
    made = multiprocessing.Process(target=scale_home.write_steps, args=(stream, first_step, PAUSE_SECONDS), daemon=True)
    made.start()
    try:
        yield
    finally:
        made.terminate()
        made.join()


def _api(up: psutil.Process) -> psutil.Process:
    return next(child for child in up.children() if "api" in child.cmdline())


def _look(chromium: str, client: Client, job_id: int, seconds: float) -> Figures:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        page = _log_in(browser, client)
        figures = _look_at_nothing(browser, client) | _look_at_runs(page, client, job_id)
        figures |= _look_at_charts(page, client, job_id, seconds)
        browser.close()
    return figures


def _log_in(browser: Browser, client: Client) -> Page:
    page = browser.new_context(viewport={"width": 1280, "height": 900}, locale="en-GB").new_page()
    page.add_init_script(WATCH)
    page.goto(client.post("/login-codes")["link"])
    page.wait_for_url(f"{client.url}/")
    return page


def _look_at_nothing(browser: Browser, client: Client) -> Figures:
    """The least that any page takes here: the same bundle with nothing to show, and a frame that waits for the next."""
    page = browser.new_context(viewport={"width": 1280, "height": 900}, locale="en-GB").new_page()
    page.add_init_script(WATCH)
    shown = page.get_by_test_id("login-required")
    seconds = _seconds(lambda: page.goto(f"{client.url}/login", wait_until="commit"), shown.wait_for)
    found = {"bare_page_seconds": seconds, "bare_page_longest_task_ms": _longest_task(page, "")}
    page.context.close()
    return found


def _look_at_runs(page: Page, client: Client, job_id: int) -> Figures:
    figures: Figures = {}
    rows = page.locator("[data-testid^=job-row-]")
    total = client.get("/jobs", limit=1)["total"]

    def has_count(number: int) -> Callable[[], None]:
        return lambda: page.locator("h1 small", has_text=f"{number:,} runs").wait_for()

    figures["runs_first_rows_seconds"] = _seconds(
        lambda: page.goto(f"{client.url}/runs", wait_until="commit"), rows.first.wait_for
    )
    has_count(total)()
    page.wait_for_timeout(1000)
    tasks = {"load": _longest_task(page, "runs load")}
    figures["runs_scroll_seconds"] = _seconds(lambda: _scroll_to(page, "job-row-1"))
    tasks["scroll"] = _longest_task(page, "runs scroll")
    page.locator(".job-table").hover()
    page.mouse.wheel(0, -10_000_000)
    page.get_by_test_id(f"job-row-{job_id}").wait_for()
    _longest_task(page, "")
    first = page.get_by_test_id(f"job-row-{(total - 1) // 2}")
    header = page.locator("th, .ant-table-thead [class*=cell]", has_text="Name").first
    figures["runs_sort_seconds"] = _seconds(header.click, first.wait_for)
    tasks["sort"] = _longest_task(page, "runs sort")
    failed = client.get("/jobs", query="state:failed", limit=1)["total"]
    page.get_by_role("combobox", name="State").click()
    page.keyboard.type("failed")
    figures["runs_filter_seconds"] = _seconds(lambda: page.keyboard.press("Enter"), has_count(failed))
    page.keyboard.press("Escape")
    tasks["filter"] = _longest_task(page, "runs filter")
    found = client.get("/jobs", query=f"state:failed {QUERY}", limit=1)["total"]
    page.evaluate("__keys.length = 0")
    page.locator("[data-search] input").first.press_sequentially(QUERY, delay=60)
    figures["runs_query_seconds"] = _seconds(has_count(found))
    figures["runs_slowest_key_ms"] = page.evaluate("Math.max(0, ...__keys)")
    tasks["query"] = _longest_task(page, "runs query")
    return (
        figures
        | {f"runs_{name}_longest_task_ms": ms for name, ms in tasks.items()}
        | {"runs_live_longest_task_ms": max(ms for name, ms in tasks.items() if name != "load")}
    )


def _scroll_to(page: Page, row: str) -> None:
    page.locator(".job-table").hover()
    for _ in range(3000):
        page.mouse.wheel(0, 1500)
        page.wait_for_timeout(16)
        if page.get_by_test_id(row).count():
            return
    raise SystemExit(f"{row} did not come into view")


def _look_at_charts(page: Page, client: Client, job_id: int, seconds: float) -> Figures:
    figures: Figures = {}
    began = time.perf_counter()
    page.goto(f"{client.url}/runs/{job_id}?tab=charts", wait_until="commit")
    page.wait_for_function(HAS_DRAWN, polling="raf")
    figures["first_chart_seconds"] = time.perf_counter() - began
    charts = page.locator('[data-testid^="chart-"]')
    page.wait_for_function(
        "(number) => [...document.querySelectorAll('[data-testid^=\"chart-\"]')]"
        ".filter((chart) => Number(chart.dataset.points ?? 1) > 0).length >= number",
        arg=len(scale_home.METRICS),
        timeout=60_000,
    )
    figures["all_series_seconds"] = time.perf_counter() - began
    page.wait_for_timeout(2000)
    figures["charts_load_longest_task_ms"] = _longest_task(page, "charts load")
    shown = page.locator(".figures").first.inner_text()
    page.wait_for_timeout(1000 * seconds / 2)
    figures["live_still_longest_task_ms"] = _longest_task(page, "charts live")
    charts.first.hover()
    end = time.monotonic() + seconds / 2
    way = 300
    while time.monotonic() < end:
        page.mouse.wheel(0, way)
        page.wait_for_timeout(100)
        is_at_end = page.evaluate("scrollY + innerHeight >= document.documentElement.scrollHeight - 2 || scrollY === 0")
        way = -way if is_at_end else way
    figures["live_scrolled_longest_task_ms"] = _longest_task(page, "charts scrolled live")
    page.evaluate("scrollTo(0, 0)")
    page.wait_for_timeout(1500)
    if page.locator(".figures").first.inner_text() == shown:
        raise SystemExit("the charts did not move while the run was live")
    figures["live_longest_task_ms"] = max(
        figures["live_still_longest_task_ms"], figures["live_scrolled_longest_task_ms"]
    )
    page.goto("about:blank")
    return figures


def _longest_task(page: Page, phase: str) -> float:
    """The longest since the last call; what ran in the longest frame is printed when that was too long."""
    page.wait_for_timeout(200)
    found = page.evaluate("[Math.max(0, ...__tasks.splice(0)), __frames.splice(0).sort((a, b) => b.ms - a.ms)[0]]")
    if found[0] > 200 and phase and found[1]:
        print(f"{phase}: {found[0]:.0f} ms; scripts of the longest frame: {'; '.join(found[1]['scripts']) or 'none'}")
    return float(found[0])


def _seconds(*calls: Callable[[], Any]) -> float:
    began = time.perf_counter()
    for call in calls:
        call()
    return time.perf_counter() - began


def _crowd(client: Client, token: str, job_id: int, server: psutil.Process) -> Figures:
    alone = crowd.follow(client, token, job_id, clients=CLIENTS, seconds=10, server=server)
    slow = crowd.read_nothing(client.url, token, job_id)
    beside = crowd.follow(client, token, job_id, clients=CLIENTS, seconds=20, server=server)
    slow.close()
    return {
        "ws_p50_seconds": statistics.median(alone.latencies),
        "ws_p99_seconds": _percentile(alone.latencies, 0.99),
        "ws_server_cpu_percent": alone.cpu_percent,
        "ws_beside_slow_p50_seconds": statistics.median(beside.latencies),
        "ws_beside_slow_p99_seconds": _percentile(beside.latencies, 0.99),
        "ws_fewest_events": min(beside.num_received.values()),
        "ws_most_events": max(beside.num_received.values()),
        "ws_slow_client_rss_growth_mb": beside.rss_growth_mb,
        "server_rss_mb": server.memory_info().rss / 1e6,
    }


def _percentile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def _limits(figures: Figures) -> Figures:
    """What could not be undercut: a page without data, and the pauses between two looks at a run and at its feed."""
    pages = ("runs_first_rows_seconds", "first_chart_seconds")
    pauses = WORKER_TICK_SECONDS + POLL_SECONDS
    return {
        **dict.fromkeys(pages, figures["bare_page_seconds"]),
        "ws_p50_seconds": pauses / 2,
        "ws_p99_seconds": pauses,
        "ws_beside_slow_p50_seconds": pauses / 2,
        "ws_beside_slow_p99_seconds": pauses,
    }


def _report(figures: Figures) -> None:
    print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    print(f"{'':34} {'measured':>10} {'target':>8} {'limit':>8} {'ratio':>7}")
    limits = _limits(figures)
    for name, value in figures.items():
        target, limit = TARGETS.get(name), limits.get(name)
        beside = f"{'' if target is None else f'{target:g}':>8} {'' if not limit else f'{limit:.3g}':>8}"
        ratio = f"{value / limit:7.2f}" if limit else ""
        verdict = "MISSED" if target is not None and value > target else ""
        print(f"{name:34} {value:10.3f} {beside} {ratio} {verdict}".rstrip())
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
