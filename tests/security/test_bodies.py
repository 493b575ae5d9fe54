"""Bodies that are huge, deep, or hold what JSON parsers disagree about: a clear refusal, never a 500, nothing kept."""

import json
import socket
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import httpx
import orjson
import pytest

from finery.api.limits import MAX_BODY_BYTES
from finery.api.openapi import document
from finery.core import processes
from tests.security.conftest import Live, begin, fetch

WRITING = [
    (verb.upper(), path)
    for path, verbs in orjson.loads(document())["paths"].items()
    for verb in verbs
    if verb in ("post", "put", "patch")
]
ODD = {
    "half of a surrogate pair": r'"\ud800"',
    "a NUL": r'"\u0000"',
    "not a number": "NaN",
    "infinity": "Infinity",
    "beyond floats": "1e999",
    "beyond 64 bits": str(2**70),
    "thousands of digits": "9" * 5000,
    "half of a pair as a key": r'{"\udfff": 1}',
    "a NUL as a key": r'{"\u0000": 1}',
}


def filled(path: str) -> str:
    return path.replace("{job_id}", "1").replace("{verb}", "set").replace("{sha256}", "0" * 64).replace("{name}", "X")


def ask(live: Live, verb: str, path: str, body: bytes) -> httpx.Response:
    headers = {**live.authorization, "Content-Type": "application/json"}
    return fetch(verb, live.url + filled(path), content=body, headers=headers, timeout=30)


@pytest.mark.parametrize("depth", [50, 300, 950, 2000, 100_000])
def test_deep_nesting_is_refused_everywhere(live: Live, depth: int) -> None:
    for opened, closed in (("[", "]"), ('{"values":', "}"), ('{"spec":', "}")):
        body = (opened * depth + "1" + closed * depth).encode()
        for verb, path in WRITING:
            answer = ask(live, verb, path, body)
            assert answer.status_code < 500, (verb, path, opened, answer.text)
            assert answer.json()["message"] if answer.status_code >= 400 else True


def places(odd: str) -> Iterator[tuple[str, str, str]]:
    """Requests that are right but for one value, which is text that becomes part of the JSON."""
    identity = processes.identify().model_dump_json()
    for task in (f'{{"project": {odd}}}', f'{{"config": {{"deep": [{{"er": {odd}}}]}}}}'):
        spec = f'{{"name": "a", "kind": "external", "task": {task}}}'
        yield "POST", "/api/jobs/external", f'{{"spec": {spec}, "process": {identity}}}'
    for field in ("name", "notes"):
        yield "PATCH", "/api/jobs/1", f'{{"{field}": {odd}}}'
    for field in ("tags", "add_tags", "remove_tags"):
        yield "PATCH", "/api/jobs/1", f'{{"{field}": [{odd}]}}'
    yield "POST", "/api/jobs/1/set", f'{{"values": {{"learning_rate": {odd}}}}}'
    yield "POST", "/api/jobs/check", f'{{"text": {odd}}}'
    yield "POST", "/api/login", f'{{"code": {odd}}}'
    yield "PUT", "/api/secrets/ODD", f'{{"value": {odd}}}'
    yield "POST", "/api/trees", f'{{"files": {{"a": {odd}}}}}'
    yield "POST", "/api/datasets/generate", f'{{"generator": {odd}, "name": "odd"}}'
    yield "POST", "/api/datasets/generate", f'{{"generator": "arithmetic", "name": "odd", "params": {{"seed": {odd}}}}}'
    yield "POST", "/api/datasets/import", f'{{"object": "{"0" * 64}", "name": "a", "file_name": {odd}}}'
    job = f'{{"spec":{{"name":"a","kind":"evaluate","task":{{"model":{{"base":{odd}}},"benchmark":{{"name":"x"}}}}}}}}'
    yield "POST", "/api/jobs", job


@pytest.mark.parametrize("number", ["\u00b2", "\u0661", "99999999999999999999", "-1", "1\n", "1_0", "+1"])
def test_numbers_of_references_that_are_none_are_refused(live: Live, number: str) -> None:
    begin(live, task={"config": {"steps": [1, 2]}})
    rows = {"generator": "arithmetic", "name": "numbered", "params": {"num_rows": 3}}
    live.client.post("/datasets/generate", rows)
    model, data = {"base": "tiny-char"}, {"train": "numbered"}
    jobs = [
        {"model": {"base": f"job:{number}/last"}, "data": data},
        {"model": {"base": f"job:1/step:{number}"}, "data": data},
        {"model": model, "data": {"train": f"numbered@{number}"}},
    ]
    specs: list[dict[str, Any]] = [{"task": {"algorithm": "sft", **task}} for task in jobs]
    specs.append({"task": {"algorithm": "sft", "model": model, "data": data}, "after": [number]})
    for spec in specs:
        body = json.dumps({"spec": {"name": "a", "kind": "train", **spec}}).encode()
        answer = ask(live, "POST", "/api/jobs", body)
        assert answer.status_code in (404, 422), (spec, answer.text)
        text = json.dumps({"name": "a", "kind": "train", **spec})
        assert ask(live, "POST", "/api/jobs/dry-run", json.dumps({"text": text}).encode()).json()["is_valid"] is False
    assert ask(live, "GET", f"/api/jobs?settings=task.config.steps.{quote(number)}", b"").status_code == 200
    turns = [{"role": "user", "content": "1"}]
    for ref in (f"job:{number}/last", f"job:1/step:{number}"):
        answer = ask(live, "POST", "/api/chat", json.dumps({"model": ref, "messages": turns}).encode())
        assert answer.status_code in (404, 422), (ref, answer.text)


@pytest.mark.parametrize("odd", ODD.values(), ids=ODD)
def test_values_that_databases_and_writers_choke_on_are_refused_or_kept(live: Live, odd: str) -> None:
    begin(live)
    for verb, path, body in places(odd):
        answer = ask(live, verb, path, body.encode())
        assert answer.status_code < 500, (verb, path, body, answer.text)
    for path in ("/api/jobs", "/api/jobs/1", "/api/jobs/fields", "/api/datasets", "/api/secrets"):
        shown = fetch("GET", live.url + path, headers=live.authorization)
        assert shown.status_code == 200, (path, shown.text)
        json.loads(shown.text, parse_constant=pytest.fail)


@pytest.mark.parametrize(("verb", "path"), WRITING)
def test_a_huge_body_is_refused_before_it_is_read(live: Live, verb: str, path: str) -> None:
    limit = live.settings.max_upload_bytes if path == "/api/objects" else MAX_BODY_BYTES
    with socket.create_connection(("127.0.0.1", live.port), timeout=10) as wire:
        wire.sendall(
            f"{verb} {filled(path)} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {live.token}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {limit + (1 << 20)}\r\n\r\n".encode()
        )
        assert wire.recv(4096).startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize("path", ["/api/login", "/api/jobs/check", "/api/trees"])
def test_a_body_without_a_length_is_counted(live: Live, path: str) -> None:
    sent = 0

    def endless() -> Iterator[bytes]:
        nonlocal sent
        while sent <= MAX_BODY_BYTES * 2:
            sent += 1 << 20
            yield b" " * (1 << 20)

    headers = {**live.authorization, "Content-Type": "application/json"}
    answer = fetch("POST", live.url + path, content=endless(), headers=headers, timeout=60)

    assert answer.status_code == 413
    assert answer.json()["code"] == "too_large"


def test_a_body_that_is_no_json_or_of_another_type_is_refused(live: Live) -> None:
    for kind, body in (
        ("application/json", b"{"),
        ("application/json", b"\xff\xfe"),
        ("text/plain", b'{"code":"x"}'),
        ("application/xml", b"<!DOCTYPE a [<!ENTITY b SYSTEM 'file:///etc/passwd'>]><a>&b;</a>"),
        ("multipart/form-data", b"--"),
        ("multipart/form-data; boundary=x", b"--y"),
        ("application/x-www-form-urlencoded", b"code=x"),
    ):
        for verb, path in WRITING:
            if path in ("/api/login-codes", "/api/logout"):
                continue
            headers = {**live.authorization, "Content-Type": kind}
            answer = fetch(verb, live.url + filled(path), content=body, headers=headers)
            assert answer.status_code in (400, 404, 422), (kind, verb, path, answer.status_code, answer.text)
            assert "root:" not in answer.text
