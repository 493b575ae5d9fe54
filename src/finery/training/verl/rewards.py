"""Our rewards, as verl asks for them: one completion at a time, in a process of their own.

What is asked for within a moment is scored together, since a reward model or a judge takes many at once for little
more than one. A reward that fails as its spec says it must not does not raise here, where verl would drop the prompt in
silence: the message travels with the score, and the trainer ends the run. The score is NaN then, since a filter of
groups leaves out those whose scores are all the same, and the message with them.
"""

import asyncio
import math
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import orjson

from finery.core.errors import FineryError
from finery.core.rundir import Run
from finery.core.spec import parse
from finery.training.scoring import Scorer, names
from finery.training.specs import RewardSpec

ATTEMPT: Final = "FINERY_ATTEMPT"
"""Environment variable of all processes of a run: the attempt's folder."""
FAILURE: Final = "reward_failure"
"""Entry of what belongs to a score: why the run must end; empty otherwise."""
ERRORS: Final = "reward_errors"
"""Another: this completion's share of the failures."""
_CALM_SECONDS: Final = 0.005


class _RewardRun(Run):
    """The run as one of several workers of rewards sees it: each keeps a file of its own."""

    def samples(self, name: str, records: Sequence[Mapping[str, Any]], step: int) -> int | None:
        """Append records to a file of this process."""
        return super().samples(f"{name}-{os.getpid()}", records, step)


class _Desk:
    """The rewards of this process."""

    def __init__(self, attempt: Path):
        run = _RewardRun.open(attempt, writer=f"rewards-{os.getpid()}")
        self._specs = parse(tuple[RewardSpec, ...], run.spec.job["task"]["rewards"])
        self._names = names(self._specs)
        self._scorer = Scorer(self._specs, run)
        self._thread = ThreadPoolExecutor(max_workers=1)
        self._waiting: list[tuple[str, Mapping[str, Any], int, asyncio.Future[dict[str, Any]]]] = []
        self._timer: asyncio.TimerHandle | None = None

    async def score(self, completion: str, row: Mapping[str, Any], step: int) -> dict[str, Any]:
        """Score of a completion and what belongs to it."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[dict[str, Any]] = loop.create_future()
        self._waiting.append((completion, row, step, answer))
        if self._timer is not None:
            self._timer.cancel()
        self._timer = loop.call_later(_CALM_SECONDS, self._begin)
        return await answer

    def _begin(self) -> None:
        waiting, self._waiting = self._waiting, []
        texts, rows, steps, answers = zip(*waiting, strict=True) if waiting else ((), (), (), ())

        def tell(done: "asyncio.Future[list[dict[str, Any]]]") -> None:
            for answer, found in zip(answers, done.result(), strict=True):
                answer.set_result(found)

        if waiting:
            loop = asyncio.get_running_loop()
            loop.run_in_executor(self._thread, self._scored, texts, rows, max(steps)).add_done_callback(tell)

    def _scored(self, texts: Sequence[str], rows: Sequence[Mapping[str, Any]], step: int) -> list[dict[str, Any]]:
        failure = ""
        try:
            columns = self._scorer.score(texts, rows, step=step)
        except FineryError as error:
            failure = str(error)
            columns = [[math.nan] * len(texts) for _ in self._specs]
        num_errors = self._scorer.metrics().get("reward_errors", 0.0)
        return [
            {
                "score": sum(spec.weight * part for spec, part in zip(self._specs, parts, strict=True)),
                FAILURE: failure,
                ERRORS: num_errors / len(texts),
                **dict(zip(self._names, parts, strict=True)),
            }
            for parts in zip(*columns, strict=True)
        ]


_desk: _Desk | None = None


async def score(
    data_source: str, solution_str: str, ground_truth: Any, extra_info: Mapping[str, Any], **_: Any
) -> dict[str, Any]:
    """What `reward.custom_reward_function` names.

    Args:
        data_source: Unused: which rewards there are, the job file says.
        solution_str: The completion.
        ground_truth: Unused: the row has it.
        extra_info: `row` is the row of our data as JSON, `step` the step that it is drawn for.
    """
    global _desk
    if _desk is None:
        _desk = _Desk(Path(os.environ[ATTEMPT]))
    return await _desk.score(solution_str, orjson.loads(extra_info["row"]), int(extra_info.get("step", 0)))
