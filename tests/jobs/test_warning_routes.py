"""Warnings and corrections over the real routes."""

from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient

from finery import migrations
from finery.api.app import create_app
from finery.core.clock import FakeClock
from finery.core.db import Database
from finery.core.settings import Settings
from finery.jobs import expecting
from finery.jobs.expecting import Host
from tests.jobs.test_recipes import SFT, Api


@pytest.fixture
def api(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Api]:
    """A server on a machine of 300 MiB without GPUs."""
    monkeypatch.setattr(expecting, "this_host", lambda: Host((), 300 * 2**20))
    db = Database(settings.url)
    migrations.upgrade(db, lock=settings.home / "migrate.lock")
    with TestClient(create_app(settings, db=db, clock=FakeClock()), base_url="http://127.0.0.1:8321") as http:
        yield Api(http, settings.token_file.read_text())


def test_submit_and_the_dry_run_warn_and_do_not_block(api: Api) -> None:
    api.generate("sums", format="sft", num_rows=10)

    dry = api.dry_run(SFT)
    spec = api("POST", "/jobs/check", {"text": SFT})["spec"]
    made = api("POST", "/jobs", {"spec": spec}, status=201)

    [told] = dry["jobs"][0]["warnings"]
    assert dry["is_valid"]
    assert "0.3 GiB of CPU can be used" in told
    assert made["warnings"] == [told]
    assert made["state"] == "queued"
    assert api("GET", f"/jobs/{made['id']}")["estimate"] is None


def test_without_ended_jobs_there_is_no_correction(api: Api) -> None:
    found = api("GET", "/plan/calibration?device=cpu-generic&engine=trl&algorithm=sft")
    assert (found["ratio"], found["num_jobs"], found["scope"]) == (None, 0, "")
    api("GET", "/plan/calibration", status=422)
