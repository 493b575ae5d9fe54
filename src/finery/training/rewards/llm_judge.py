"""The reward `llm_judge`."""

import asyncio
import hashlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple, Self

import httpx
from pydantic import Field, model_validator

from finery.core.environment import secret_variable
from finery.core.errors import InvalidSpec
from finery.core.refs import SecretRef
from finery.core.rundir import Run
from finery.core.spec import ADVANCED, Spec
from finery.training.rewards import Failed, OpenReward, prompt_text, registry

_TEMPLATE: Final = """You judge answers. Here is a request:

{prompt}

Here is an answer to it:

{completion}

How good is the answer? Think briefly, then end with a line `Score: N`, where N is a number from 0 (useless or wrong) to
10 (right, complete and clear)."""
_PLACE: Final = re.compile(r"\{(prompt|completion|answer)\}")
_LONGEST_WAIT_SECONDS = 60.0
_BUSY: Final = frozenset({408, 409, 425, 429})
"""Statuses after which it is worth asking again, besides those of 500 and above."""
_SENDABLE: Final = re.compile(r"[!-~]+")
_LARGEST_BODY_BYTES = 1 << 20
_LONGEST_ANSWER = 20_000
"""Characters of the judge's answer that are looked at, from the end."""


class LlmJudgeParams(Spec):
    base_url: str = Field(pattern=r"^https?://[^\s?#]+$", max_length=500)
    """Of a server with OpenAI's chat interface, such as `http://localhost:8000/v1`; `/chat/completions` is added."""
    model: str = Field(min_length=1, max_length=200)
    """Name of the judge, as the server knows it."""
    api_key: SecretRef = Field("", pattern=r"^([A-Z][A-Z0-9_]{0,63})?$")
    """Name of the stored secret with the key (`finery secrets set JUDGE_KEY`), not the key itself; empty sends none."""
    template: str = Field(_TEMPLATE, max_length=20_000)
    """What the judge is asked. {prompt}, {completion} and {answer} (the row's target) are filled in."""
    pattern: str = Field(r"(?i)score\W{0,5}(-?\d+(?:\.\d+)?)", max_length=500)
    """Regular expression whose first group is the score in the judge's answer. Its last match counts."""
    lowest: float = 0.0
    """Score that becomes the reward 0."""
    highest: float = 10.0
    """Score that becomes the reward 1."""
    concurrency: int = Field(8, ge=1, le=256)
    """Questions that are asked at once."""
    timeout_seconds: float = Field(60.0, gt=0, le=3600)
    """Longest wait for one whole answer, however slowly it comes."""
    retries: int = Field(4, ge=0, le=20, json_schema_extra=ADVANCED)
    """Times that a question is asked again after no answer, a busy server or an error of the server's own."""
    backoff_seconds: float = Field(1.0, gt=0, le=60, json_schema_extra=ADVANCED)
    """Wait before the first of them; it doubles each time. A server that names a time is given it, up to a minute."""
    max_tokens: int = Field(512, ge=1, json_schema_extra=ADVANCED)
    """Longest answer of the judge."""
    temperature: float = Field(0.0, ge=0, json_schema_extra=ADVANCED)
    """Of the judge. At 0 it says the same to the same question, as far as its server does."""

    @model_validator(mode="after")
    def _can_be_read(self) -> Self:
        try:
            groups = re.compile(self.pattern).groups
        except re.error as error:
            raise ValueError(f"pattern is no regular expression: {error}") from error
        if groups < 1:
            raise ValueError("pattern has no group; put parentheses around the number")
        if self.lowest >= self.highest:
            raise ValueError(f"lowest ({self.lowest}) must be below highest ({self.highest})")
        if "{completion}" not in self.template:
            raise ValueError("template has no {completion}, so the judge would not see what it judges")
        return self


class _NoAnswer(Exception):
    """The judge did not answer, and asking again would not help or has not."""


class _Reply(NamedTuple):
    """What a server said."""

    status: int
    text: str
    asked_to_wait: float
    """Seconds before it wants to be asked again."""


@registry.register("llm_judge", params=LlmJudgeParams)
class LlmJudge(OpenReward):
    """Score from 0 to 1 that another language model gives, asked over OpenAI's chat interface."""

    def __init__(self, params: LlmJudgeParams, run: Run):
        """Read the key.

        Raises:
            InvalidSpec: it cannot be sent as one.
        """
        self._params = params
        self._pattern = re.compile(params.pattern)
        self._key = _key(params.api_key) if params.api_key else ""
        self._url = f"{params.base_url.rstrip('/')}/chat/completions"
        self._loop = asyncio.Runner()
        self._client = httpx.AsyncClient(
            # Unpacked, a small body could be one without end.
            headers={"Accept-Encoding": "identity"} | ({"Authorization": f"Bearer {self._key}"} if self._key else {}),
            timeout=None,
            limits=httpx.Limits(max_connections=params.concurrency),
        )
        self._known: dict[bytes, float] = {}
        """Digest of a question -> its score."""

    def score(self, completions: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> list[float | Failed]:
        questions = [self._question(text, row) for text, row in zip(completions, rows, strict=True)]
        new = list(dict.fromkeys(one for one in questions if _digest(one) not in self._known))
        fresh = dict(zip(new, self._loop.run(self._all_judged(new)), strict=True))
        self._known |= {_digest(one): score for one, score in fresh.items() if not isinstance(score, Failed)}
        return [fresh[one] if one in fresh else self._known[_digest(one)] for one in questions]

    def close(self) -> None:
        self._loop.run(self._client.aclose())
        self._loop.close()

    def _question(self, completion: str, row: Mapping[str, Any]) -> str:
        words = {
            "prompt": prompt_text(row.get("prompt", "")),
            "completion": completion,
            "answer": str(row.get("answer", "")),
        }
        return _PLACE.sub(lambda place: words[place[1]], self._params.template)

    async def _all_judged(self, questions: Sequence[str]) -> list[float | Failed]:
        """Scores in the order of the questions, of which no more than are allowed are asked at once."""
        free = asyncio.Semaphore(self._params.concurrency)

        async def judged(question: str) -> float | Failed:
            async with free:
                return await self._judged(question)

        return await asyncio.gather(*map(judged, questions))

    async def _judged(self, question: str) -> float | Failed:
        """The score of one question."""
        try:
            answer = await self._ask(question)
        except _NoAnswer as error:
            return Failed(self._masked(str(error)))
        matches = self._pattern.findall(answer[-_LONGEST_ANSWER:])
        last = matches[-1] if matches else None
        text = last if isinstance(last, str) or last is None else last[0]
        try:
            number = float(text) if text is not None else None
        except ValueError:
            number = None
        low, high = self._params.lowest, self._params.highest
        if number is None or not low <= number <= high:
            what = "no score" if number is None else f"the score {number:g}, outside {low:g} to {high:g},"
            return Failed(f"found {what} in the judge's answer {self._masked(answer)[-200:]!r}")
        return (number - low) / (high - low)

    async def _ask(self, question: str) -> str:
        """The judge's answer to one question, asked again while that may help."""
        wait, complaint = self._params.backoff_seconds, ""
        for again in range(self._params.retries + 1):
            if again:
                await asyncio.sleep(wait)
                wait = min(2 * self._params.backoff_seconds * 2 ** (again - 1), _LONGEST_WAIT_SECONDS)
            try:
                async with asyncio.timeout(self._params.timeout_seconds):
                    reply = await self._exchange(question)
            except TimeoutError:
                complaint = f"no whole answer within {self._params.timeout_seconds:g} s"
                continue
            except (httpx.HTTPError, httpx.InvalidURL) as error:
                complaint = f"{type(error).__name__}: {error}"
                continue
            if reply.status == 200:
                return self._content(reply.text)
            complaint = f"status {reply.status}: {self._excerpt(reply.text)}"
            if reply.status not in _BUSY and reply.status < 500:
                raise _NoAnswer(f"was refused by {self._params.base_url}: {complaint}")
            wait = max(wait, reply.asked_to_wait)
        raise _NoAnswer(
            f"got no answer from {self._params.base_url} in {self._params.retries + 1} tries; the last: {complaint}"
        )

    async def _exchange(self, question: str) -> _Reply:
        """Send a question and read what comes, up to a limit. How long it may take is up to who calls."""
        asked = {
            "model": self._params.model,
            "messages": [{"role": "user", "content": question}],
            "max_tokens": self._params.max_tokens,
            "temperature": self._params.temperature,
        }
        body = bytearray()
        async with self._client.stream("POST", self._url, json=asked) as response:
            async for chunk in response.aiter_raw():
                body += chunk
                if len(body) > _LARGEST_BODY_BYTES:
                    size = f"{_LARGEST_BODY_BYTES >> 20} MiB"
                    raise _NoAnswer(f"got more than {size} from {self._params.base_url}, which is no answer")
        return _Reply(response.status_code, body.decode("utf-8", "replace"), _asked_to_wait(response))

    def _content(self, text: str) -> str:
        try:
            content = json.loads(text)["choices"][0]["message"]["content"]
        except (ValueError, LookupError, TypeError, RecursionError) as error:
            raise _NoAnswer(
                f"got something else than a chat answer from {self._params.base_url}: {self._excerpt(text)}"
            ) from error
        if not isinstance(content, str):
            raise _NoAnswer(f"got an answer without text from {self._params.base_url}")
        return content

    def _excerpt(self, text: str) -> str:
        """The beginning of a text of the server."""
        return repr(self._masked(text)[:200])

    def _masked(self, text: str) -> str:
        """A text without the key, should somebody repeat that. To be done before it is cut or quoted."""
        return text.replace(self._key, "***") if self._key else text


def _key(name: str) -> str:
    """The key in a secret, which is shown to nobody: a text with other characters would be quoted by who refuses it."""
    found = os.environ.get(secret_variable(name), "").strip()
    if not _SENDABLE.fullmatch(found):
        what = "holds characters that no key has (line breaks, spaces, letters outside ASCII)" if found else "is empty"
        raise InvalidSpec(f"the secret {name} {what}; store the key anew with `finery secrets set {name}`")
    return found


def _asked_to_wait(response: httpx.Response) -> float:
    """Seconds that the server asks for, at most a minute; 0 where it asks for none."""
    try:
        return min(float(response.headers.get("retry-after", "0")), _LONGEST_WAIT_SECONDS)
    except ValueError:
        return 0.0


def _digest(question: str) -> bytes:
    return hashlib.sha256(question.encode("utf-8", "replace")).digest()
