"""What an evaluation job looks like and what it answers."""

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from finery.core.spec import ADVANCED, Spec, View
from finery.models.specs import ModelSpec


class BenchmarkChoice(Spec):
    """One benchmark with its parameters."""

    name: str
    """Name in the benchmark registry, such as `arithmetic`."""
    params: dict[str, Any] = {}
    """Checked against the benchmark's params model."""


class ProblemSet(Spec):
    """What a model is asked, and how it answers."""

    benchmark: BenchmarkChoice
    data: str | None = None
    """Problems to answer, where the benchmark reads a dataset: a version (`arithmetic-test@1`) or a file."""
    max_new_tokens: int = Field(96, ge=1)
    batch_size: int = Field(64, ge=1, json_schema_extra=ADVANCED)
    """Problems answered at once; they are sorted by length first."""
    limit: int | None = Field(None, ge=1)
    """First n problems only."""


class EvaluationPlan(Spec):
    """Evaluate checkpoints of a training job while it trains, each by a job of its own."""

    every_steps: int | None = Field(None, ge=1)
    """Steps between checkpoints that are evaluated; one is saved where none is due. Live as `evaluation_interval`."""
    every_hours: float | None = Field(None, gt=0)
    """The same by the clock, in hours of training. Live as `evaluation_hours`. The last checkpoint is evaluated in any
    case."""
    benchmarks: tuple[ProblemSet, ...] = Field(min_length=1, max_length=5)
    """What a checkpoint is put through. The first one decides which checkpoints are the best."""
    device: Literal["own", "share", "cpu"] = Field("own", json_schema_extra=ADVANCED)
    """Where there are GPUs: `own` waits for one that is free, `share` takes the first of the training job, which must
    leave it the memory, `cpu` takes none."""
    cpu_threads: int | None = Field(None, ge=1, json_schema_extra=ADVANCED)
    """Threads of an evaluation; None takes all cores."""

    @model_validator(mode="after")
    def _has_a_time(self) -> Self:
        if self.every_steps is None and self.every_hours is None:
            raise ValueError("say when checkpoints are evaluated: every_steps, every_hours or both")
        return self


class _OneModel(Spec):
    """Comes first in forms."""

    model: ModelSpec


class EvaluateSpec(ProblemSet, _OneModel):
    """Let a model answer a benchmark, greedily, and score each answer."""

    @model_validator(mode="after")
    def _trains_nothing(self) -> Self:
        for name in ("lora", "quantize", "gradient_checkpointing", "liger"):
            if getattr(self.model, name) != ModelSpec.model_fields[name].default:
                raise ValueError(f"model.{name} has no place in an evaluation, which trains nothing; remove it")
        return self


class SampleResult(View):
    """One answered problem."""

    index: int
    """Position in the benchmark; the same problem has the same index in every evaluation of it."""
    prompt: str
    target: str
    completion: str
    answer: str | None
    """What was extracted from the completion; None when nothing was found."""
    correct: bool


class ScoreView(View):
    """Result of one evaluation job."""

    job_id: int
    job_name: str
    model: str
    benchmark: str
    num_samples: int
    num_correct: int
    accuracy: float
    interval: tuple[float, float]
    """95 % Wilson interval of the accuracy."""


class ScorePage(View):
    scores: list[ScoreView]


class SampleResultPage(View):
    job_id: int
    num_samples: int
    offset: int
    samples: list[SampleResult]


class ComparisonView(View):
    """Two evaluations of the same problems, problem by problem."""

    baseline: ScoreView
    candidate: ScoreView
    num_shared: int
    both_correct: int
    both_wrong: int
    improved: int
    """Wrong in the baseline, right in the candidate."""
    regressed: int
    """Right in the baseline, wrong in the candidate."""
    difference: float
    """Candidate's accuracy minus baseline's, over the shared problems."""
    difference_interval: tuple[float, float]
    """95 % interval of the difference (paired, Newcombe 1998 method 10)."""
    p_value: float
    """Exact McNemar test, two-sided: the chance of a split at least this uneven if neither were better."""


class BenchmarkView(View):
    name: str
    summary: str
    params_schema: dict[str, Any]


class BenchmarkPage(View):
    benchmarks: list[BenchmarkView]
