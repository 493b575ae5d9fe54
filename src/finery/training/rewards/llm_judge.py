"""The reward `llm_judge`."""

import hashlib
import os
import re
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, Self

import httpx
from pydantic import Field, model_validator

from finery.core.environment import secret_variable
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
    """Longest wait for one answer."""
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


@registry.register("llm_judge", params=LlmJudgeParams)
class LlmJudge(OpenReward):
    """Score from 0 to 1 that another language model gives, asked over OpenAI's chat interface."""

    def __init__(self, params: LlmJudgeParams, run: Run):
        self._params = params
        self._pattern = re.compile(params.pattern)
        self._key = os.environ.get(secret_variable(params.api_key), "") if params.api_key else ""
        headers = {"Authorization": f"Bearer {self._key}"} if self._key else {}
        self._client = httpx.Client(
            headers=headers,
            timeout=params.timeout_seconds,
            limits=httpx.Limits(max_connections=params.concurrency),
        )
        self._known: dict[bytes, float] = {}
        """Digest of a question -> its score."""

    def score(self, completions: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> list[float | Failed]:
        questions = [self._question(text, row) for text, row in zip(completions, rows, strict=True)]
        new = list(dict.fromkeys(one for one in questions if _digest(one) not in self._known))
        with ThreadPoolExecutor(self._params.concurrency) as pool:
            fresh = dict(zip(new, pool.map(self._judged, new), strict=True))
        self._known |= {_digest(one): score for one, score in fresh.items() if not isinstance(score, Failed)}
        return [fresh[one] if one in fresh else self._known[_digest(one)] for one in questions]

    def close(self) -> None:
        self._client.close()

    def _question(self, completion: str, row: Mapping[str, Any]) -> str:
        words = {
            "prompt": prompt_text(row.get("prompt", "")),
            "completion": completion,
            "answer": str(row.get("answer", "")),
        }
        return _PLACE.sub(lambda place: words[place[1]], self._params.template)

    def _judged(self, question: str) -> float | Failed:
        """The score of one question."""
        try:
            answer = self._ask(question)
        except _NoAnswer as error:
            return Failed(str(error))
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
            return Failed(f"found {what} in the judge's answer {answer[-200:]!r}")
        return (number - low) / (high - low)

    def _ask(self, question: str) -> str:
        """The judge's answer to one question, asked again while that may help."""
        wait, complaint = self._params.backoff_seconds, ""
        for again in range(self._params.retries + 1):
            if again:
                time.sleep(wait)
                wait = min(2 * self._params.backoff_seconds * 2 ** (again - 1), _LONGEST_WAIT_SECONDS)
            try:
                response = self._client.post(
                    f"{self._params.base_url.rstrip('/')}/chat/completions",
                    json={
                        "model": self._params.model,
                        "messages": [{"role": "user", "content": question}],
                        "max_tokens": self._params.max_tokens,
                        "temperature": self._params.temperature,
                    },
                )
            except httpx.HTTPError as error:
                complaint = f"{type(error).__name__}: {error}"
                continue
            if response.status_code == 200:
                return self._content(response)
            complaint = f"status {response.status_code}: {self._excerpt(response.text)}"
            if response.status_code not in _BUSY and response.status_code < 500:
                raise _NoAnswer(f"was refused by {self._params.base_url}: {complaint}")
            wait = max(wait, _asked_to_wait(response))
        raise _NoAnswer(
            f"got no answer from {self._params.base_url} in {self._params.retries + 1} tries; the last: {complaint}"
        )

    def _content(self, response: httpx.Response) -> str:
        try:
            content = response.json()["choices"][0]["message"]["content"]
        except (ValueError, LookupError, TypeError) as error:
            raise _NoAnswer(
                f"got something else than a chat answer from {self._params.base_url}: {self._excerpt(response.text)}"
            ) from error
        if not isinstance(content, str):
            raise _NoAnswer(f"got an answer without text from {self._params.base_url}")
        return content

    def _excerpt(self, text: str) -> str:
        """The beginning of a text of the server, without the key should it repeat that."""
        shown = text.replace(self._key, "***") if self._key else text
        return repr(shown[:200])


def _asked_to_wait(response: httpx.Response) -> float:
    """Seconds that the server asks for, at most a minute; 0 where it asks for none."""
    try:
        return min(float(response.headers.get("retry-after", "0")), _LONGEST_WAIT_SECONDS)
    except ValueError:
        return 0.0


def _digest(question: str) -> bytes:
    return hashlib.sha256(question.encode("utf-8", "replace")).digest()
