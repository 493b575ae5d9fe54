"""/metrics has a token of its own, which opens nothing else."""

import httpx
import pytest

from tests.security.conftest import Live, fetch, log_in
from tests.security.test_strangers import assert_shut


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def test_its_token_reads_it_and_nothing_else(live: Live) -> None:
    token = live.settings.metrics_token_file.read_text()

    answer = fetch("GET", f"{live.url}/metrics", headers=bearer(token))

    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=")
    assert "finery_jobs{" in answer.text
    assert answer.headers["cache-control"] == "no-store"
    assert_shut(live, bearer(token))
    assert fetch("GET", f"{live.url}/api/server", headers=bearer(token)).status_code == 401


def test_the_owner_may_read_it_too(live: Live) -> None:
    assert fetch("GET", f"{live.url}/metrics", headers=live.authorization).status_code == 200
    session = {"Cookie": f"finery_session={log_in(live)}"}
    assert fetch("GET", f"{live.url}/metrics", headers=session).status_code == 200


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer"}, bearer("wrong"), {"Authorization": "Basic eDp5"}])
def test_a_stranger_reads_nothing(live: Live, headers: dict[str, str]) -> None:
    for path in ("/metrics", "/%6detrics", "/metrics?token=1"):
        answer = fetch("GET", f"{live.url}{path}", headers=headers)
        assert answer.status_code == 401
        assert "finery_jobs" not in answer.text


def test_no_disguise_of_its_path_passes_the_door(live: Live) -> None:
    for path in ("//metrics", "/metrics/", "/./metrics", "/x/../metrics", "/METRICS", "/metrics%2f"):
        raw = httpx.URL(live.url).copy_with(raw_path=path.encode())
        answer = fetch("GET", raw, follow_redirects=True)
        assert "finery_jobs" not in answer.text, path


def test_a_foreign_page_and_a_foreign_host_read_nothing(live: Live) -> None:
    token = bearer(live.settings.metrics_token_file.read_text())
    foreign = fetch("GET", f"{live.url}/metrics", headers={**token, "Origin": "http://evil.example"})
    assert foreign.status_code == 403
    assert fetch("GET", f"{live.url}/metrics", headers={**token, "Host": "evil.example"}).status_code == 400
    assert fetch("POST", f"{live.url}/metrics", headers=token).status_code == 405


def test_its_file_is_its_owners_alone(live: Live) -> None:
    assert live.settings.metrics_token_file.stat().st_mode & 0o077 == 0
