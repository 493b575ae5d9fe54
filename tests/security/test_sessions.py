"""What a login gives, and what every answer says to a browser."""

import threading
from http.cookies import SimpleCookie

import httpx

from finery.api.auth import COOKIE
from tests.security.conftest import Live, fetch, log_in, operations


def log_in_with(live: Live, code: str) -> httpx.Response:
    return fetch("POST", f"{live.url}/api/login", json={"code": code})


def test_the_cookie_is_out_of_reach_of_scripts_and_of_other_sites(live: Live) -> None:
    answer = log_in_with(live, live.client.post("/login-codes")["code"])

    cookie = SimpleCookie(answer.headers["set-cookie"])[COOKIE]
    assert cookie["httponly"] is True
    assert cookie["samesite"] == "strict"
    assert cookie["path"] == "/"
    assert cookie["domain"] == ""
    assert 0 < int(cookie["max-age"]) <= 30 * 24 * 3600
    assert len(cookie.value) >= 43
    assert answer.content == b""


def test_one_code_opens_one_session_however_many_ask_at_once(live: Live) -> None:
    code = live.client.post("/login-codes")["code"]
    statuses: list[int] = []
    threads = [threading.Thread(target=lambda: statuses.append(log_in_with(live, code).status_code)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(statuses) == [204] + [401] * 7


def test_a_login_gives_a_new_session_whatever_cookie_came_with_it(live: Live) -> None:
    planted = "planted-by-somebody-else"
    code = live.client.post("/login-codes")["code"]
    headers = {"Cookie": f"{COOKIE}={planted}"}
    answer = fetch("POST", f"{live.url}/api/login", json={"code": code}, headers=headers)

    assert answer.cookies[COOKIE] != planted
    assert fetch("GET", f"{live.url}/api/server", headers=headers).status_code == 401


def test_the_code_travels_in_the_fragment_which_no_server_sees(live: Live) -> None:
    made = live.client.post("/login-codes")

    assert made["link"] == f"{live.url}/login#code={made['code']}"


def test_every_answer_says_what_a_browser_must_not_do_with_it(live: Live) -> None:
    cookie = {"Cookie": f"{COOKIE}={log_in(live)}"}
    with httpx.Client(base_url=live.url, trust_env=False) as http:
        for headers in ({}, cookie, {**cookie, "Origin": "http://evil.example"}, {"Host": "evil.example"}):
            for verb, path in [*operations(live), ("GET", "/api/none"), ("BREW", "/api/jobs")]:
                if path in ("/api/logout", "/api/objects"):
                    continue
                answer = http.request(verb, path, headers=headers)
                policy = answer.headers["content-security-policy"]
                assert "default-src 'none'" in policy, (verb, path)
                assert "frame-ancestors 'none'" in policy
                assert answer.headers["x-content-type-options"] == "nosniff"
                assert answer.headers["cache-control"] == "no-store"
                assert answer.headers["referrer-policy"] == "no-referrer"
                assert "server" not in answer.headers
                kind = answer.headers.get("content-type", "application/json")
                assert kind.split(";")[0] in ("application/json", "text/csv"), (verb, path, kind)


def test_every_page_has_a_policy_under_which_no_foreign_script_runs(live: Live) -> None:
    for path in ("/", "/runs", "/runs/1", "/login", "/nowhere/at/all", "/index.html"):
        answer = fetch("GET", live.url + path)
        policy = dict(part.strip().partition(" ")[::2] for part in answer.headers["content-security-policy"].split(";"))
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert policy["frame-ancestors"] == "'none'"
        if answer.status_code == 503:  # the UI is not built: words only
            assert policy["default-src"] == "'none'"
            continue
        assert policy["default-src"] == "'self'"
        assert "script-src" not in policy
        assert policy["connect-src"] == "'self'"
        assert policy["object-src"] == policy["base-uri"] == "'none'"
        assert "<script>" not in answer.text
        assert " onerror=" not in answer.text
