"""How checkpoints of a job look from outside."""

from datetime import datetime
from typing import Literal

from finery.core.spec import View

EvaluationState = Literal["waiting", "running", "scored", "failed", "skipped"]


class ScoreSeriesView(View):
    """What checkpoints are asked. Scores of one series can be compared problem by problem."""

    key: str
    benchmark: str
    label: str
    """For people: benchmark, data and how many of the problems."""


class CheckpointScoreView(View):
    """The score of a checkpoint in one series."""

    num_correct: int
    num_samples: int
    accuracy: float
    interval: tuple[float, float]
    """95 % Wilson interval of the accuracy."""
    is_best: bool
    """Highest accuracy of its series; of equal ones the earlier."""
    is_over_fitting: bool
    """Lower than the best before it by more than noise: exact paired test on the same problems, 5 %."""


class CheckpointEvaluationView(View):
    """An evaluation of a checkpoint, made by the job's plan or by hand."""

    series: str
    """Key of the series."""
    job_id: int | None
    """The evaluation; None before it is queued, and where it never was."""
    state: EvaluationState
    cause: str
    """What it waits for, or why it has no score, in words."""
    score: CheckpointScoreView | None


class KeptView(View):
    """Why a checkpoint is not deleted."""

    reason: Literal["last", "every", "best", "pinned", "evaluation", "job", "chat"]
    job_id: int | None
    """Of `job`: the one that needs it."""


class TimelineCheckpoint(View):
    """One checkpoint of a job."""

    id: int
    ref: str
    """What job files use, such as `job:41/step:200`."""
    average_ref: str | None
    """The same of the moving averages of its weights; None where it has none, or is deleted."""
    attempt: int
    step: int
    num_bytes: int
    created_at: datetime
    is_there: bool
    """Not deleted."""
    is_on_path: bool
    """It lies on the way that led to the newest attempt; others were left behind when the job went back."""
    is_latest: bool
    is_pinned: bool
    kept: list[KeptView]
    """Empty where nothing keeps it."""
    evaluations: list[CheckpointEvaluationView]
    """The newest of each series."""


class Timeline(View):
    """The checkpoints of a job and what is known of them."""

    job_id: int
    has_plan: bool
    """The job has its checkpoints evaluated (`monitoring.evaluation`)."""
    series: list[ScoreSeriesView]
    """The one that decides which are the best comes first."""
    checkpoints: list[TimelineCheckpoint]
    """By attempt and step."""
