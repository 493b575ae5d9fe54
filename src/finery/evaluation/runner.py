"""Runs an evaluation in the child: answer every problem greedily, score it, keep it.

Problems are answered in batches of similar length. After each batch its results are in samples/evaluation.jsonl and the
accuracy so far is a metric; between batches a pause or cancel is honoured. An evaluation that was stopped starts again.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from finery.core import checkpoints
from finery.core.errors import Conflict, InvalidSpec
from finery.core.hooks import Decision
from finery.core.rundir import Run, Stopped
from finery.evaluation import benchmarks, results, service, statistics
from finery.evaluation.benchmarks import Benchmark, Prompt, Sample
from finery.evaluation.results import StoredResult
from finery.evaluation.specs import EvaluateSpec, SampleResult
from finery.models import chat, loading
from finery.models.generation import Completion, Sampling, generate

_STOPS = (Decision.PAUSE, Decision.CANCEL)


@dataclass(frozen=True)
class _Setup:
    """What the loop works with."""

    benchmark: Benchmark
    samples: list[Sample]
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    prompts: list[list[int]]
    """Token ids of each sample's prompt."""
    sampling: Sampling


@dataclass
class _Counts:
    """How it stands."""

    evaluated: int = 0
    correct: int = 0
    unfinished: int = 0


class _NoControls:
    """An evaluation has nothing that could be changed while it runs."""

    def get(self) -> Mapping[str, float]:
        return {}

    def set(self, name: str, value: float) -> None:
        raise ValueError(f"an evaluation has no control {name!r}; cancel it and submit a changed one")

    def scale(self, name: str, factor: float) -> None:
        raise ValueError(f"an evaluation has no control {name!r}")


def execute(task: EvaluateSpec, run: Run) -> None:
    """Evaluate.

    Raises:
        InvalidSpec: the benchmark, its parameters, the data and the model do not fit together.
        Conflict: a file has changed since the job was submitted.
        Stopped: a pause or cancel was asked for before the last batch was done.
    """
    service.check(task)
    setup = _prepare(task, run)
    batches = _batches(setup.prompts, task.batch_size)
    run.status("running", "evaluating", step=0, total=len(batches))
    counts = _Counts()
    for step, batch in enumerate(batches, start=1):
        if run.stop_requested in _STOPS:
            raise Stopped(run.stop_requested)
        values = _answer(setup, batch, counts, run, step)
        run.log(values, step)
        decision = run.after_step(step, values, _NoControls())
        if decision in _STOPS and step < len(batches):
            raise Stopped(decision)
    _finish(task, run, counts, step=len(batches))


def _prepare(task: EvaluateSpec, run: Run) -> _Setup:
    """Read the problems first: what is wrong with them shows before a model is loaded."""
    params = benchmarks.registry.params(task.benchmark.name, task.benchmark.params)
    benchmark = benchmarks.registry.get(task.benchmark.name).target(params)
    samples = list(islice(benchmark.samples(_data(task, run)), task.limit))
    if not samples:
        raise InvalidSpec(f"{task.data or task.benchmark.name} has no problems")
    path = loading.materialize(run.input(task.model.base), task.model.base)
    tokenizer = loading.load_tokenizer(path, task.model.template)
    model = loading.load_model(path, dtype=task.model.dtype).to(loading.device())
    model.eval()
    prompts = [chat.render_prompt(tokenizer, sample.prompt) for sample in samples]
    _check_lengths(prompts, model, task.max_new_tokens)
    sampling = Sampling(max_new_tokens=task.max_new_tokens, stop_ids=chat.stop_ids(tokenizer))
    return _Setup(benchmark, samples, model, tokenizer, prompts, sampling)


def _data(task: EvaluateSpec, run: Run) -> Path | None:
    if task.data is None:
        return None
    resolved = run.input(task.data)
    path = Path(resolved.path)
    if checkpoints.file_sha256(path) != resolved.sha256:
        raise Conflict(f"{task.data} has changed since the job was submitted; submit it again")
    return path


def _check_lengths(prompts: Sequence[Sequence[int]], model: PreTrainedModel, max_new_tokens: int) -> None:
    window = getattr(model.config, "max_position_embeddings", None)
    longest = max(range(len(prompts)), key=lambda row: len(prompts[row]))
    needed = len(prompts[longest]) + max_new_tokens
    if window is not None and needed > window:
        raise InvalidSpec(
            f"problem {longest} has {len(prompts[longest])} tokens and max_new_tokens is {max_new_tokens}, but the "
            f"model takes {window} in all; lower max_new_tokens or leave long problems out"
        )


def _batches(prompts: Sequence[Sequence[int]], batch_size: int) -> list[list[int]]:
    """Positions of the problems, sorted by length, in runs of `batch_size`."""
    order = sorted(range(len(prompts)), key=lambda row: len(prompts[row]))
    return [order[start : start + batch_size] for start in range(0, len(order), batch_size)]


def _answer(setup: _Setup, batch: list[int], counts: _Counts, run: Run, step: int) -> dict[str, float]:
    """Answer, score and keep one batch; returns its metrics."""
    started = time.monotonic()
    prompts = [setup.prompts[row] for row in batch]
    completions = generate(setup.model, prompts, setup.sampling, batch_size=len(batch))
    seconds = time.monotonic() - started
    found = [_judge(setup, setup.samples[row], done) for row, done in zip(batch, completions, strict=True)]
    run.samples(results.SAMPLES, [sample.model_dump() for sample in found], step)
    num_tokens = sum(len(done.token_ids) for done in completions)
    counts.evaluated += len(found)
    counts.correct += sum(sample.correct for sample in found)
    counts.unfinished += sum(not done.is_finished for done in completions)
    return {
        "evaluated": counts.evaluated,
        "accuracy": counts.correct / counts.evaluated,
        "response_length_mean": num_tokens / len(batch),
        "generation_tokens_per_second": num_tokens / max(seconds, 1e-9),
    }


def _judge(setup: _Setup, sample: Sample, done: Completion) -> SampleResult:
    ids = done.token_ids[:-1] if done.is_finished else done.token_ids
    completion = str(setup.tokenizer.decode(ids, skip_special_tokens=True))
    score = setup.benchmark.score(sample, completion)
    return SampleResult(
        index=sample.index,
        prompt=_as_text(sample.prompt),
        target=sample.target,
        completion=completion,
        answer=score.answer,
        correct=score.correct,
    )


def _as_text(prompt: Prompt) -> str:
    """A prompt as people read it: a single turn is its text."""
    if isinstance(prompt, str):
        return prompt
    if len(prompt) == 1:
        return str(prompt[0]["content"])
    return "\n".join(f"{message['role']}: {message['content']}" for message in prompt)


def _finish(task: EvaluateSpec, run: Run, counts: _Counts, *, step: int) -> None:
    interval = statistics.wilson(counts.correct, counts.evaluated)
    result = StoredResult(
        benchmark=task.benchmark.name,
        params=task.benchmark.params,
        model=task.model.base,
        data=task.data,
        data_sha256=run.input(task.data).sha256 if task.data else None,
        num_samples=counts.evaluated,
        num_correct=counts.correct,
        num_unfinished=counts.unfinished,
        accuracy=counts.correct / counts.evaluated,
        interval=interval,
    )
    run.artifact("result", results.write_result(run.dir.path, result))
    run.log(
        {
            "accuracy_low": interval.low,
            "accuracy_high": interval.high,
            "num_samples": counts.evaluated,
            "num_correct": counts.correct,
        },
        step,
    )
