"""Chat over REST: real children that hold the tiny model, from the first question to their end."""

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import orjson
import psutil
import pytest

from finery.core.errors import InvalidSpec, NotFound, Unavailable
from tests.platform import Server, end_strays, sft_job, wait_for

HELLO = [{"role": "user", "content": "1+1="}]


@pytest.fixture(scope="module")
def job(shared: Server) -> str:
    """A run of two checkpoints, as the first part of their references."""
    shared.generate("sums", num_rows=100, format="sft")
    job_id = shared.submit(sft_job(steps=4, monitoring={"checkpoint_interval": 2}))
    shared.await_state(job_id, "completed")
    return f"job:{job_id}"


@contextlib.contextmanager
def asking(server: Server, model: str = "tiny-char", **changes: Any) -> Iterator[Iterator[dict[str, Any]]]:
    """The events of an answer as they come."""
    body = {"model": model, "messages": HELLO, "sampling": {"max_new_tokens": 12, "seed": 1}} | changes
    token = (server.home / "token").read_text()
    headers = {"Authorization": f"Bearer {token}"}
    with httpx.stream(
        "POST", f"{server.client.url}/api/chat", json=body, headers=headers, timeout=120, trust_env=False
    ) as response:
        assert response.status_code == 200, response.read()
        assert response.headers["content-type"].startswith("text/event-stream")
        yield (orjson.loads(line[6:])["event"] for line in response.iter_lines() if line.startswith("data: "))


def ask(server: Server, model: str = "tiny-char", **changes: Any) -> tuple[str, dict[str, Any]]:
    """The text of an answer, and how it ended."""
    with asking(server, model, **changes) as events:
        *pieces, last = [event for event in events if event["type"] != "loading"]
    return "".join(piece["text"] for piece in pieces), last


def children(server: Server) -> list[psutil.Process]:
    """Processes that hold models for this server's API."""
    up = psutil.Process(server.process.pid)
    found = []
    for process in up.children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            found += [process] if "finery.chat" in process.cmdline() else []
    return found


def newest_child(server: Server) -> int:
    return max(children(server), key=lambda found: found.create_time()).pid


def test_an_answer_comes_token_by_token_and_is_the_same_with_the_same_seed(shared: Server) -> None:
    with asking(shared) as events:
        found = [event for event in events if event["type"] != "loading"]
    text = "".join(event["text"] for event in found[:-1])

    assert len(found) > 6
    assert found[-1]["type"] == "done"
    assert found[-1]["reason"] == "length"
    assert found[-1]["num_tokens"] == 12
    assert ask(shared)[0] == text
    assert ask(shared, sampling={"max_new_tokens": 12, "seed": 2})[0] != text


def test_the_next_turn_reuses_what_was_computed(shared: Server) -> None:
    text, first = ask(shared)
    turns = [*HELLO, {"role": "assistant", "content": text}, {"role": "user", "content": "2+2="}]

    _, second = ask(shared, messages=turns)

    assert second["num_prompt_tokens"] > first["num_prompt_tokens"] + 8
    assert second["num_reused_tokens"] >= first["num_prompt_tokens"]


def test_closing_the_request_ends_the_answer(shared: Server) -> None:
    ask(shared)
    with asking(shared, sampling={"max_new_tokens": 500, "temperature": 0}) as events:
        next(events)

    _, done = ask(shared)

    assert done["type"] == "done"
    assert done["seconds"] < 5


def test_a_model_that_reads_nothing_keeps_nobody_else_waiting(shared: Server) -> None:
    """More than a pipe holds is asked of it, several times."""
    ask(shared)
    held = psutil.Process(newest_child(shared))
    held.suspend()
    try:
        with contextlib.ExitStack() as stack:
            for _ in range(8):
                events = stack.enter_context(asking(shared, messages=[{"role": "user", "content": "1" * 300_000}]))
            started = time.monotonic()
            assert shared.client.get("/chat/choices")["loaded"]
            assert shared.client.get("/server")["worker"]["is_alive"]
            assert time.monotonic() - started < 5
            held.resume()
            *_, last = events
    finally:
        held.resume()

    assert "the conversation has 300,00" in last["message"]
    assert ask(shared)[1]["type"] == "done"


def test_a_conversation_that_is_too_long_says_the_way_out_and_the_next_goes_well(shared: Server) -> None:
    _, failed = ask(shared, messages=[{"role": "user", "content": "1" * 600}])

    assert failed["type"] == "failed"
    assert "the model takes 512 with its answer; write less, or begin a new conversation" in failed["message"]
    assert ask(shared)[1]["type"] == "done"


def test_an_answer_ends_where_the_model_takes_no_more(shared: Server) -> None:
    _, done = ask(shared, messages=[{"role": "user", "content": "1" * 500}], sampling={"seed": 1})

    assert done["reason"] == "window"
    assert done["num_prompt_tokens"] + done["num_tokens"] == 512


@pytest.mark.parametrize(
    ("model", "error", "message"),
    [
        ("tiny-chat", NotFound, "did you mean tiny-char"),
        ("{job}/step:3", NotFound, "no checkpoint of step 3"),
        ("job:9999/last", NotFound, "no job 9999"),
        ("job:warm-up/last", InvalidSpec, "named by its number"),
        ("{job}", InvalidSpec, "no checkpoint reference"),
        ("job:\u00b2/last", InvalidSpec, "named by its number"),
        ("job:\u0661/last", InvalidSpec, "named by its number"),
        ("job:99999999999999999999/last", InvalidSpec, "named by its number"),
        ("{job}/step:\u0664", InvalidSpec, "no checkpoint reference"),
        ("{job}/step:99999999999999999999", InvalidSpec, "no checkpoint reference"),
        ("/etc", InvalidSpec, "path"),
        ("", InvalidSpec, "model"),
    ],
)
def test_a_model_that_is_none_is_refused_before_anything_starts(
    shared: Server, job: str, model: str, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        shared.client.post("/chat", {"model": model.format(job=job), "messages": HELLO})


@pytest.mark.parametrize(
    "messages",
    [[], [{"role": "assistant", "content": "2"}], [*HELLO, {"role": "system", "content": "be brief"}, *HELLO]],
)
def test_what_is_no_question_is_refused(shared: Server, messages: list[dict[str, str]]) -> None:
    with pytest.raises(InvalidSpec, match="messages|last message|first message"):
        shared.client.post("/chat", {"model": "tiny-char", "messages": messages})


def test_the_answer_of_a_guest_is_no(shared: Server, job: str) -> None:
    link = shared.client.post("/shares", {"job_id": int(job[4:])})["link"]
    with httpx.Client(base_url=shared.client.url, trust_env=False) as guest:
        guest.post("/api/guests", json={"job_id": int(job[4:]), "key": link.partition("#key=")[2]})

        assert guest.get(f"/api/jobs/{job[4:]}").status_code == 200
        assert guest.post("/api/chat", json={"model": "tiny-char", "messages": HELLO}).status_code == 401
        assert guest.get("/api/chat/choices").status_code == 401


def test_a_killed_model_is_reported_and_started_again(shared: Server) -> None:
    ask(shared)
    [held] = [found for found in children(shared) if found.pid == newest_child(shared)]
    held.suspend()
    with asking(shared, sampling={"max_new_tokens": 400, "temperature": 0}) as events:
        os.kill(held.pid, signal.SIGKILL)
        *_, last = events

    assert last["type"] == "failed"
    assert "was killed by signal 9" in last["message"]
    assert ask(shared)[1]["type"] == "done"


def test_a_checkpoint_answers_under_its_reference(shared: Server, job: str) -> None:
    newest = ask(shared, f"{job}/last")[0]

    assert ask(shared, f"{job}/step:4")[0] == newest
    choices = shared.client.get("/chat/choices")
    refs = [row["ref"] for row in choices["checkpoints"] if row["ref"].startswith(job)]
    assert refs == [f"{job}/step:4", f"{job}/step:2"]
    assert f"{job}/step:4" in choices["loaded"]
    assert "tiny-char" in [row["ref"] for row in choices["builtin"]]


def test_no_more_models_are_loaded_than_are_allowed(shared: Server, job: str) -> None:
    for model in ("tiny-char", f"{job}/step:4", f"{job}/step:2"):
        ask(shared, model)

    assert set(shared.client.get("/chat/choices")["loaded"]) == {f"{job}/step:2", f"{job}/step:4"}
    assert len(children(shared)) == 2


def test_all_models_answering_is_said(shared: Server, job: str) -> None:
    for model in (f"{job}/step:2", f"{job}/step:4"):
        ask(shared, model)
    held = children(shared)
    for process in held:
        process.suspend()
    try:
        with (
            asking(shared, f"{job}/step:2"),
            asking(shared, f"{job}/step:4"),
            pytest.raises(Unavailable, match="2 models are loaded and all are answering"),
        ):
            shared.client.post("/chat", {"model": "tiny-char", "messages": HELLO})
    finally:
        for process in held:
            process.resume()


def test_models_end_when_idle_and_with_the_server(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    server = Server(home, FINERY_CHAT_IDLE_MINUTES="0.03")
    try:
        ask(server)
        wait_for("the idle model to be unloaded", lambda: not children(server), 30)
        ask(server)
        held = children(server)
        assert held
        server.kill("api")
        wait_for("the model to end with the API", lambda: not any(found.is_running() for found in held), 30)
    finally:
        server.stop()
        end_strays(home)
