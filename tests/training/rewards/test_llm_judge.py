"""The judge is a server that answers late, wrongly or not at all; each is met by asking again or told."""

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest

from finery.core.errors import InvalidSpec
from finery.core.rundir import Run
from finery.core.spec import parse
from finery.training.rewards import Failed
from finery.training.rewards.llm_judge import LlmJudge, LlmJudgeParams
from tests.training.rewards.judge import Judge, RawServer, Reply, said


@pytest.fixture
def judge() -> Iterator[Judge]:
    made = Judge()
    yield made
    made.close()


@pytest.fixture
def opened(judge: Judge, run: Run) -> Iterator[Callable[..., LlmJudge]]:
    made: list[LlmJudge] = []

    def open_(**params: Any) -> LlmJudge:
        raw = {"base_url": judge.url, "model": "wise", "template": "{prompt}|{completion}|{answer}"}
        made.append(LlmJudge(LlmJudgeParams(**{**raw, "backoff_seconds": 0.05, **params}), run))
        return made[-1]

    yield open_
    for reward in made:
        reward.close()


@pytest.fixture
def raw() -> Iterator[Callable[..., str]]:
    """Starts servers that say bytes; gives the address of each."""
    made: list[RawServer] = []

    def start(say: Callable[[socket.socket, bytes], None]) -> str:
        made.append(RawServer(say))
        return made[-1].url

    yield start
    for server in made:
        server.close()


def test_the_judge_is_asked_and_its_last_score_is_scaled(judge: Judge, opened: Callable[..., LlmJudge]) -> None:
    judge.reply = lambda question, _: said(f"Score: 1 at first. But on reflection:\n**Score: {question[0]}.5**")
    rows = [{"prompt": "3?", "answer": "a"}, {"prompt": [{"role": "user", "content": "9?"}]}]

    assert opened().score(["x", "{prompt}"], rows) == [pytest.approx(0.35), pytest.approx(0.95)]

    assert {one["messages"][0]["content"] for one in judge.asked} == {"3?|x|a", "9?|{prompt}|"}
    assert judge.asked[0]["path"] == "/v1/chat/completions"
    assert {name: judge.asked[0][name] for name in ("model", "max_tokens", "temperature")} == {
        "model": "wise",
        "max_tokens": 512,
        "temperature": 0.0,
    }
    assert judge.keys == [None, None]


def test_range_and_pattern_are_the_users(judge: Judge, opened: Callable[..., LlmJudge]) -> None:
    judge.reply = lambda question, _: said("verdict <2>")

    assert opened(pattern="<(.)>", lowest=1, highest=3).score(["x"], [{}]) == [0.5]


def test_the_key_comes_from_the_secret_and_shows_nowhere(
    judge: Judge, opened: Callable[..., LlmJudge], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JOB_SECRET_JUDGE_KEY", "sk-very-secret")
    judge.reply = lambda *_: (401, {}, b"the key sk-very-secret is wrong")

    [found] = opened(api_key="JUDGE_KEY").score(["x"], [{}])

    assert judge.keys == ["Bearer sk-very-secret"]
    assert isinstance(found, Failed)
    assert "status 401: 'the key *** is wrong'" in found.reason


def test_white_space_around_the_key_is_not_part_of_it(
    judge: Judge, opened: Callable[..., LlmJudge], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JOB_SECRET_JUDGE_KEY", " sk-very-secret\n")

    assert opened(api_key="JUDGE_KEY").score(["x"], [{}]) == [0.5]
    assert judge.keys == ["Bearer sk-very-secret"]


@pytest.mark.parametrize(
    "key", ["sk-very\nsecret", "sk-very\rsecret", "sk-very secret", "sk-very-s\u00e9cret", "", " \n"]
)
def test_a_key_that_cannot_be_sent_is_refused_and_not_shown(
    opened: Callable[..., LlmJudge], monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    monkeypatch.setenv("JOB_SECRET_JUDGE_KEY", key)

    with pytest.raises(InvalidSpec, match="the secret JUDGE_KEY") as error:
        opened(api_key="JUDGE_KEY")

    assert "sk-very" not in str(error.value)


def test_the_key_is_masked_wherever_a_server_repeats_it(
    judge: Judge, opened: Callable[..., LlmJudge], raw: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    key = "sk-very-secret"
    monkeypatch.setenv("JOB_SECRET_JUDGE_KEY", key)
    judge.reply = lambda question, _: said(f"I hold {key}{'.' * 190}" if "talks" in question else f"{key}: Score: 99")

    def repeat(connection: socket.socket, asked: bytes) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nno header " + asked.replace(b"\r\n", b" ") + b"\r\n\r\n")

    broken = raw(repeat)

    found = opened(api_key="JUDGE_KEY").score(["talks", "scores"], [{}, {}])
    found += opened(api_key="JUDGE_KEY", base_url=broken, retries=0).score(["x"], [{}])

    reasons = [one.reason for one in found if isinstance(one, Failed)]
    assert len(reasons) == 3
    assert all("***" in reason and "secret" not in reason for reason in reasons), reasons


@pytest.mark.parametrize("status", [429, 500, 502, 503])
def test_a_busy_or_broken_server_is_asked_again(judge: Judge, opened: Callable[..., LlmJudge], status: int) -> None:
    judge.reply = lambda _, number: said("Score: 10") if number == 2 else (status, {}, b"later")

    assert opened().score(["x"], [{}]) == [1.0]

    assert len(judge.asked) == 3


def test_waits_double_and_a_server_that_names_a_time_is_given_it(judge: Judge, opened: Callable[..., LlmJudge]) -> None:
    times: list[float] = []

    def reply(_: str, number: int) -> Reply:
        times.append(time.monotonic())
        return said("Score: 10") if number == 3 else (429, {"Retry-After": "0.6"} if number == 2 else {}, b"")

    judge.reply = reply

    assert opened(backoff_seconds=0.1).score(["x"], [{}]) == [1.0]

    waits = [after - before for before, after in zip(times, times[1:], strict=False)]
    assert waits[0] >= 0.1
    assert waits[1] >= 0.2
    assert waits[2] >= 0.6


def test_a_server_that_stays_broken_is_given_up_for_this_completion_alone(
    judge: Judge, opened: Callable[..., LlmJudge]
) -> None:
    judge.reply = lambda question, _: (500, {}, b"broken") if "bad" in question else said("Score: 10")

    good, bad = opened(retries=1).score(["good", "bad"], [{}, {}])

    assert good == 1.0
    assert isinstance(bad, Failed)
    assert bad.reason == f"got no answer from {judge.url} in 2 tries; the last: status 500: 'broken'"


def test_a_refusal_is_not_asked_again(judge: Judge, opened: Callable[..., LlmJudge]) -> None:
    judge.reply = lambda *_: (404, {}, b"no model wise")

    [found] = opened().score(["x"], [{}])

    assert isinstance(found, Failed)
    assert "was refused" in found.reason
    assert "no model wise" in found.reason
    assert len(judge.asked) == 1


@pytest.mark.parametrize(
    ("reply", "told"),
    [
        ((200, {}, b"<html>hello</html>"), "something else than a chat answer"),
        ((200, {}, b"{}"), "something else than a chat answer"),
        ((200, {}, b"[]"), "something else than a chat answer"),
        ((200, {}, b'{"choices": []}'), "something else than a chat answer"),
        ((200, {}, b'{"choices": [{"message": {"content": null}}]}'), "an answer without text"),
        ((200, {}, b"\xff\xfe\x00"), "something else than a chat answer"),
        (said("I would rather not."), "found no score in the judge's answer 'I would rather not.'"),
        (said("Score: 11"), "found the score 11, outside 0 to 10"),
        (said(""), "found no score"),
    ],
)
def test_garbage_is_told(judge: Judge, opened: Callable[..., LlmJudge], reply: Reply, told: str) -> None:
    judge.reply = lambda *_: reply

    [found] = opened().score(["x"], [{}])

    assert isinstance(found, Failed)
    assert told in found.reason


def test_a_server_that_hangs_is_given_up(judge: Judge, opened: Callable[..., LlmJudge]) -> None:
    def reply(*_: Any) -> Reply:
        time.sleep(2)
        return said("Score: 10")

    judge.reply = reply
    started = time.monotonic()

    [found] = opened(timeout_seconds=0.2, retries=1).score(["x"], [{}])

    assert isinstance(found, Failed)
    assert "no whole answer within 0.2 s" in found.reason
    assert time.monotonic() - started < 1.5


@pytest.mark.parametrize(
    "begin", [b"", b"HTTP/1.1 200 OK\r\nName: ", b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n"]
)
def test_a_server_that_drips_is_given_up_after_the_whole_time(
    opened: Callable[..., LlmJudge], raw: Callable[..., str], begin: bytes
) -> None:
    def drip(connection: socket.socket, _: bytes) -> None:
        connection.sendall(begin)
        while True:
            connection.sendall(b"x")
            time.sleep(0.05)

    started = time.monotonic()

    [found] = opened(base_url=raw(drip), timeout_seconds=0.5, retries=0).score(["x"], [{}])

    assert isinstance(found, Failed)
    assert "no whole answer within 0.5 s" in found.reason
    assert time.monotonic() - started < 5


def test_a_server_that_never_ends_its_answer_is_cut_off(
    opened: Callable[..., LlmJudge], raw: Callable[..., str]
) -> None:
    num_sent = 0

    def flood(connection: socket.socket, _: bytes) -> None:
        nonlocal num_sent
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        while num_sent < 1 << 28:
            connection.sendall(b"x" * (1 << 16))
            num_sent += 1 << 16

    [found] = opened(base_url=raw(flood)).score(["x"], [{}])

    assert isinstance(found, Failed)
    assert "got more than 1 MiB" in found.reason
    assert num_sent < 1 << 26


def test_a_server_that_is_not_there_is_told(run: Run) -> None:
    params = LlmJudgeParams(base_url="http://127.0.0.1:1/v1", model="wise", retries=1, backoff_seconds=0.01)

    with closing(LlmJudge(params, run)) as reward:
        [found] = reward.score(["x"], [{}])

    assert isinstance(found, Failed)
    assert "ConnectError" in found.reason


def test_the_same_question_is_asked_once(judge: Judge, opened: Callable[..., LlmJudge]) -> None:
    reward = opened()

    assert reward.score(["x", "x", "y"], [{"prompt": "p"}] * 3) == [0.5] * 3
    assert reward.score(["y", "x"], [{"prompt": "p"}] * 2) == [0.5] * 2

    assert len(judge.asked) == 2


def test_a_failure_is_not_remembered(judge: Judge, opened: Callable[..., LlmJudge]) -> None:
    judge.reply = lambda _, number: said("Score: 10") if number else said("hm")
    reward = opened()

    [first] = reward.score(["x"], [{}])

    assert isinstance(first, Failed)
    assert reward.score(["x"], [{}]) == [1.0]


def test_questions_are_asked_side_by_side_within_the_limit(judge: Judge, opened: Callable[..., LlmJudge]) -> None:
    def reply(*_: Any) -> Reply:
        time.sleep(0.2)
        return said("Score: 10")

    judge.reply = reply

    assert opened(concurrency=3).score([str(number) for number in range(9)], [{}] * 9) == [1.0] * 9

    assert judge.most_at_once == 3


@pytest.mark.parametrize(
    ("params", "told"),
    [
        ({"pattern": "("}, "no regular expression"),
        ({"pattern": "score"}, "no group"),
        ({"lowest": 3, "highest": 3}, "must be below highest"),
        ({"template": "{prompt}"}, r"no \{completion\}"),
        ({"base_url": "file:///etc/passwd"}, "base_url"),
        ({"api_key": "sk-1234"}, "api_key"),
    ],
)
def test_settings_that_cannot_work_are_refused(params: dict[str, Any], told: str) -> None:
    with pytest.raises(InvalidSpec, match=told):
        parse(LlmJudgeParams, {"base_url": "http://localhost/v1", "model": "wise", **params})
