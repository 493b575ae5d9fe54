"""The job file, and how jobs look from outside."""

from datetime import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from finery.core.carried import LiveSet, RolledBack
from finery.core.events import Event, MetricValue
from finery.core.rundir import ProcessIdentity
from finery.core.spec import ADVANCED, Spec, View
from finery.evaluation.specs import EvaluateSpec, EvaluationPlan
from finery.exporting import specs as exporting
from finery.exporting.specs import ExportSpec
from finery.jobs.resources import ResourceSpec
from finery.rules.specs import RuleSpec, distinct
from finery.training.specs import CompareSpec, TrainTask, engines, processes
from finery.training.verl import template

JobState = Literal[
    "created",
    "queued",
    "allocated",
    "running",
    "pausing",
    "paused",
    "cancelling",
    "cancelled",
    "completed",
    "failed",
    "lost",
]
Verb = Literal["pause", "resume", "cancel", "retry", "checkpoint", "set", "rewind"]

JOB_NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._ -]{0,79}$"
RecipeName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
"""Letters, digits, dot, underscore and hyphen, at most 64 characters."""


class MonitoringSpec(Spec):
    """What is kept of a run, and how often."""

    checkpoint_interval: int = Field(500, ge=1)
    """Optimizer steps between checkpoints; one is saved at the end as well."""
    keep_checkpoints: int = Field(3, ge=1, json_schema_extra=ADVANCED)
    """The newest so many are kept; older ones are deleted unless something needs them or a field below keeps them."""
    keep_every: int | None = Field(None, ge=1, json_schema_extra=ADVANCED)
    """Checkpoints whose step is a multiple of this are kept, too."""
    keep_best: int = Field(0, ge=0, le=100, json_schema_extra=ADVANCED)
    """And so many with the highest scores in the first benchmark of `evaluation`."""
    evaluation: EvaluationPlan | None = None
    """Evaluate checkpoints while the job trains."""
    sample_interval: int = Field(1, ge=1, json_schema_extra=ADVANCED)
    """Steps between recorded rollouts."""
    samples_per_step: int = Field(16, ge=0, json_schema_extra=ADVANCED)
    """Rollouts recorded at such a step; whole groups come first."""
    gradient_interval: int = Field(100, ge=0)
    """Steps between looks at the gradients, tensor by tensor and layer by layer; the first step is looked at as well.
    0 looks at none."""
    activations: bool = Field(False, json_schema_extra=ADVANCED)
    """Measure how large the activations are at these steps, too."""
    resource_interval: float = Field(10.0, ge=0.5, le=3600, json_schema_extra=ADVANCED)
    """Seconds between two looks at what the run uses: processor, memory, disk, GPUs."""
    rules: tuple[RuleSpec, ...] | None = Field(None, max_length=50, json_schema_extra=ADVANCED)
    """Alert rules, in the order of their precedence. None takes the default set; an empty list watches nothing."""

    exports: tuple[ExportSpec, ...] = Field((), json_schema_extra=ADVANCED)
    """Other trackers that a training job tells of its steps: `[tensorboard, wandb]`. What they write lies in `exports/`
    of the run directory."""

    @model_validator(mode="after")
    def _best_is_known(self) -> Self:
        if self.keep_best and self.evaluation is None:
            raise ValueError("keep_best keeps those with the highest scores, so it needs monitoring.evaluation")
        return self

    @field_validator("exports")
    @classmethod
    def _are_named_once(cls, exports: tuple[ExportSpec, ...]) -> tuple[ExportSpec, ...]:
        return exporting.distinct(exports)

    @field_validator("rules")
    @classmethod
    def _have_own_names(cls, rules: tuple[RuleSpec, ...] | None) -> tuple[RuleSpec, ...] | None:
        return rules and distinct(rules)


class JobBase(Spec):
    """What every kind of job has."""

    name: str = Field(pattern=JOB_NAME_PATTERN)
    """Letters, digits, space, dot, underscore and hyphen, at most 80 characters."""
    after: tuple[int | str, ...] = Field((), json_schema_extra=ADVANCED)
    """Jobs that must be completed first: ids, or names within one pipeline."""
    resources: ResourceSpec = ResourceSpec()
    priority: Literal["low", "normal", "high"] = "normal"
    monitoring: MonitoringSpec = MonitoringSpec()
    seed: int | None = Field(None, ge=0, lt=2**31)
    """Start of every random stream; None draws one on submit and keeps it."""
    grace_seconds: float = Field(60.0, gt=0, le=3600, json_schema_extra=ADVANCED)
    """Time to save and stop after pause or cancel before the processes are killed."""
    tags: tuple[str, ...] = ()
    recipe: RecipeName | None = Field(None, json_schema_extra=ADVANCED)
    """Name of the recipe that this job file started from; its page shows what was changed."""


class TrainJob(JobBase):
    kind: Literal["train"]
    task: TrainTask

    @model_validator(mode="before")
    @classmethod
    def _may_be_in_the_words_of_verl(cls, raw: Any) -> Any:
        return template.expanded(raw)

    @model_validator(mode="after")
    def _engine_has_the_fields(self) -> Self:
        engines.check(self.task, self.resources)
        return self

    @model_validator(mode="after")
    def _batches_fall_to_processes(self) -> Self:
        if self.task.engine != "verl":  # whose translation is checked as a whole
            processes.check(self.task, self.resources.num_processes)
        return self

    @model_validator(mode="after")
    def _answers_are_evaluated(self) -> Self:
        if self.monitoring.evaluation is not None and self.task.algorithm == "reward":
            raise ValueError("monitoring.evaluation: a reward model writes no answers; remove it")
        return self


class _SingleJob(JobBase):
    """A job that one process does."""

    @model_validator(mode="after")
    def _has_one_process(self) -> Self:
        if self.resources.num_processes > 1:
            raise ValueError(
                "only jobs of kind train run in several processes; remove resources.processes, and ask for one GPU"
            )
        return self

    @model_validator(mode="after")
    def _saves_no_checkpoints(self) -> Self:
        if self.monitoring.evaluation is not None:
            raise ValueError(
                "monitoring.evaluation evaluates checkpoints, which only jobs of kind train save; remove it"
            )
        return self


class EvaluateJob(_SingleJob):
    kind: Literal["evaluate"]
    task: EvaluateSpec


class CompareJob(_SingleJob):
    kind: Literal["compare"]
    task: CompareSpec


JobSpec = Annotated[TrainJob | EvaluateJob | CompareJob, Field(discriminator="kind")]
"""Closed set: a new kind of job is one class here and one line in `runtime.EXECUTORS`."""


class ExternalSpec(Spec):
    """What a script says of itself."""

    project: str = Field("", max_length=200)
    config: dict[str, Any] = {}
    """Settings, under the script's own names."""


class ExternalJob(JobBase):
    """A run of a script that reports by itself, or one that was imported. Finery starts nothing."""

    kind: Literal["external"]
    task: ExternalSpec


class PipelineSpec(Spec):
    """Jobs that belong together; each may wait for others by name."""

    kind: Literal["pipeline"]
    name: str = Field(pattern=JOB_NAME_PATTERN)
    recipe: RecipeName | None = Field(None, json_schema_extra=ADVANCED)
    """Name of the recipe that the jobs started from, where they name none themselves."""
    jobs: tuple[JobSpec, ...] = Field(min_length=1, max_length=100)


class CodeState(Spec):
    """Git state of the folder from which a job was submitted."""

    commit: str | None = Field(None, max_length=64)
    branch: str | None = Field(None, max_length=255)
    is_dirty: bool = False
    diff: str = Field("", max_length=1_000_000)
    """Uncommitted changes of tracked files; cut at 1,000,000 characters."""


class SubmitSpec(Spec):
    """One job, as the API takes it."""

    spec: JobSpec
    code: CodeState | None = None


class BeginSpec(Spec):
    """A script that begins to report."""

    spec: ExternalJob
    process: ProcessIdentity
    """The script's: while it lives, the run is running."""
    code: CodeState | None = None


class SubmitPipelineSpec(Spec):
    """A pipeline, as the API takes it."""

    spec: PipelineSpec
    code: CodeState | None = None


class CheckSpec(Spec):
    """A job file as text, to be checked without submitting it."""

    text: str = Field(max_length=1_000_000)
    """YAML or JSON."""


class ProblemView(View):
    path: str
    message: str
    line: int | None


class CheckView(View):
    """Verdict on a job file."""

    is_valid: bool
    problems: list[ProblemView]
    spec: dict[str, Any] | None
    """The complete job file with all defaults, when it is valid."""


class RecipeSpec(Spec):
    """A recipe to keep."""

    text: str = Field(max_length=1_000_000)
    """A job file, YAML or JSON. It must be valid."""


class RecipeView(View):
    """A job file to start from."""

    name: str
    kind: str | None
    algorithm: str | None
    description: str
    """The first line of comment."""
    is_own: bool
    """Kept by the user; the others come with Finery."""
    problem: str
    """Why it is no valid job file; empty when it is one."""


class RecipePage(View):
    recipes: list[RecipeView]


class RecipeText(RecipeView):
    """A recipe with its job file."""

    text: str


class DifferenceView(View):
    """A field that is not as in the recipe."""

    key: str
    """Such as `task.optim.learning_rate`."""
    recipe: Any
    """None where the recipe has no such field."""
    job: Any
    """None where the job has no such field."""


class RecipeDifferences(View):
    """What was changed of the recipe that a job started from."""

    recipe: str | None
    is_known: bool
    """Whether there is a recipe of that name, with a job that the job can be compared with."""
    differences: list[DifferenceView]


class SchemaView(View):
    """What a form for job files is drawn from."""

    json_schema: dict[str, Any]
    """JSON Schema of a job file; a field that most people never touch has `advanced: true`."""


class ResolvedView(View):
    """What a reference of a job file stands for now."""

    ref: str
    role: Literal["model", "data", "code"]
    kind: str
    availability: Literal["ready", "download", "build", "later"]
    """Here; downloaded or built when the job starts; or made by a job that has not ended."""
    sha256: str | None
    """As in a job's inputs; None for a checkpoint, which is resolved when the job starts."""
    num_rows: int | None
    num_bytes: int | None
    """None where it is not known before a download."""


class DryRunJob(View):
    """What one job would do."""

    name: str
    inputs: list[ResolvedView]
    num_steps: int | None
    """Optimizer steps; of an evaluation, batches; of a comparison, models."""
    num_rows: int | None
    """Rows of the data; of an evaluation, problems that are answered."""
    rows_per_step: int | None
    """Examples or prompts in a step."""
    completions_per_step: int | None
    """Drawn from the policy for a step with new rollouts."""
    epochs: float | None
    """Times that every row is visited on average."""
    warnings: list[str]
    """That it will not fit into memory, and what would."""


class DryRunView(View):
    """What submitting a job file would do. Nothing was queued."""

    is_valid: bool
    """Submit would take it."""
    problems: list[ProblemView]
    jobs: list[DryRunJob]


class RequestSpec(Spec):
    """A wish about a job."""

    values: dict[str, float] = {}
    """For `set`: control name -> value. For `rewind`: `step` of the checkpoint to go on from, and `attempt` where
    several attempts have one of this step; the newest by default."""


Tag = Annotated[str, Field(pattern=r"^[^\s,\"]{1,40}$")]
"""A word without spaces, commas and quotes."""


class JobEdit(Spec):
    """What people write on a job. What is left out stays as it is."""

    name: str | None = Field(None, pattern=JOB_NAME_PATTERN)
    tags: tuple[Tag, ...] | None = Field(None, max_length=20)
    """In place of those that are there."""
    add_tags: tuple[Tag, ...] = Field((), max_length=20)
    remove_tags: tuple[str, ...] = Field((), max_length=20)
    notes: str | None = Field(None, max_length=20_000)
    is_pinned: bool | None = None
    is_archived: bool | None = None


class JobsEdit(JobEdit):
    """The same change to several jobs."""

    ids: tuple[Annotated[int, Field(ge=1, lt=2**31)], ...] = Field(min_length=1, max_length=1000)


class FieldPage(View):
    """What can be asked for, shown and sorted by."""

    fields: list[str]
    """Of every job."""
    settings: list[str]
    """Keys of the job files of the newest jobs."""
    metrics: list[str]
    """Measured by the newest jobs."""


class GroupView(View):
    """Jobs that have the same value of a field."""

    value: str | None
    num_jobs: int
    mean: float | None
    """Of the metric's newest value over the jobs that have it."""
    low: float | None
    high: float | None


class GroupPage(View):
    groups: list[GroupView]


class AttemptView(View):
    """One try at a job."""

    number: int
    started_at: datetime | None
    ended_at: datetime | None
    exit_code: int | None
    signal: str | None
    cause: str
    resumed_from: str | None
    """Reference of the checkpoint it went on from."""
    sets: list[LiveSet]
    """Live settings that it began with otherwise than the job file and its checkpoint say."""
    skipped_steps: list[int]
    """Steps whose rows rules have left out; each counts in the order of data that those before it have left."""
    rollbacks: list[RolledBack]
    """All that led to this attempt."""
    host: str | None


class RequestView(View):
    """A wish and what became of it."""

    id: int
    verb: Verb
    values: dict[str, float]
    by: str
    requested_at: datetime
    outcome: Literal["requested", "delivered", "applied", "rejected"]
    message: str
    undoes: int | None
    """Cursor of the action of a rule that it takes back."""


class ChangeView(View):
    """A live setting was changed."""

    attempt: int
    """In which it was changed first; later ones have taken it over."""
    step: int
    before: float
    after: float
    rule: str | None
    """That changed it; None where a person did."""
    by: str | None
    """Who else changed it: as of a wish, or `outside-1` and so on for the supervisor."""
    is_undo: bool
    """It took back what a rule did."""


class DeviationView(View):
    """A setting that is in effect otherwise than the job file says."""

    name: str
    """Of the live setting, such as `learning_rate`."""
    requested: float | None
    """In the job file; None where it does not name it."""
    effective: float
    """Of the learning rate that at the peak of its schedule."""
    changes: list[ChangeView]
    """Of this setting, oldest first; none where the algorithm moves it by itself."""


class CheckpointView(View):
    ref: str
    """What job files use, such as `job:41/step:200`."""
    attempt: int
    step: int
    num_bytes: int
    created_at: datetime


class JobView(View):
    """One job."""

    id: int
    name: str
    kind: str
    algorithm: str | None
    state: JobState
    cause: str
    """Why the job is in this state, in words."""
    pipeline: str | None
    parent: int | None
    """Of an evaluation that a training job asked for: that job. Lists leave it out unless they are asked for it."""
    after: list[int]
    priority: str
    tags: list[str]
    notes: str
    is_pinned: bool
    """Stands first in lists."""
    is_archived: bool
    """Left out of lists that do not ask for it."""
    model: str | None
    data: str | None
    seed: int
    step: int | None
    """Steps done in the newest attempt."""
    total_steps: int | None
    seconds_per_step: float | None
    """Over the newest steps."""
    attempt: int
    """Number of the newest attempt; 0 before the first."""
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    last_heard_at: datetime | None
    """When the newest event was written."""
    verbs: list[Verb]
    """What can be asked for in this state."""
    requests: list[RequestView]
    """Wishes that are still open."""
    last_values: dict[str, float | str]
    """Newest value of each metric; not-a-number and infinity as strings."""
    settings: dict[str, Any]
    """Keys of the job file that a list was asked to show, such as `task.optim.learning_rate`."""
    warnings: list[str]
    """When it is submitted: that it will not fit into memory, and what would. Empty later."""


class EstimateView(View):
    """What a training job that has ended was estimated to take of each of its devices, and what it took."""

    device: str
    """Id of the accelerator in the planner's table."""
    engine: str
    algorithm: str
    num_devices: int
    """On a CPU, processes."""
    outcome: Literal["completed", "oom"]
    usable_bytes: int
    """Of a device."""
    predicted_bytes: int | None
    """At the peak; None where there was no estimate."""
    measured_bytes: int | None
    """On a GPU what torch had allocated at most, on a CPU the largest resident set; None where it ran out of memory."""
    predicted_speed: float | None
    """Tokens per second, of all devices."""
    measured_speed: float | None
    reason: str
    """Why there was no estimate."""


class CorrectionView(View):
    """How far estimates of memory were off for jobs that have ended. Each figure is measured over predicted."""

    device: str
    engine: str
    algorithm: str
    ratio: float | None
    """The median, which an estimate is to be multiplied with; None where fewer than three such jobs have ended."""
    low: float | None
    """10th percentile."""
    high: float | None
    """90th percentile."""
    num_jobs: int
    scope: str
    """What these jobs have in common with the one that is asked about: `device, engine and algorithm`, `device and
    engine` or `device`; empty where there is no correction."""


class JobDetail(JobView):
    """One job with everything that a page about it shows first."""

    spec: dict[str, Any]
    inputs: dict[str, Any]
    """What each reference was resolved to."""
    attempts: list[AttemptView]
    checkpoints: list[CheckpointView]
    """Those whose files are there."""
    controls: dict[str, MetricValue] | None
    """Live settings as they are in effect; None before the first step."""
    answered: list[RequestView]
    """Wishes that have come to an end, the newest 50, newest first."""
    deviations: list[DeviationView]
    """Settings that are in effect otherwise than the job file says: changed live, in this attempt or before."""
    num_deleted_checkpoints: int
    """Others that were saved; `monitoring.keep_checkpoints`, `keep_every` and `keep_best` say which are kept."""
    code: dict[str, Any] | None
    provenance: dict[str, Any] | None
    """Packages, hardware and code of the newest attempt, once its child has recorded them."""
    estimate: EstimateView | None
    """What it was estimated to take and what it took; None until it has completed or run out of memory."""


class BegunView(View):
    """Where a script reports."""

    job: JobView
    run_dir: str
    """Directory of the attempt, absolute, on this machine."""


class JobList(View):
    jobs: list[JobView]


class JobPage(View):
    jobs: list[JobView]
    total: int


class PipelineView(View):
    name: str
    jobs: list[JobView]


class StreamedEvent(View):
    """An event with its place in the job's history."""

    cursor: int
    """Given at ingestion, rising within the job; ask for what comes after it."""
    attempt: int
    writer: str
    event: Event


class EventPage(View):
    """What the page loads first; the websocket then sends the same `StreamedEvent` objects."""

    events: list[StreamedEvent]
    next_after: int
    """Pass as `after` to go on."""
    is_complete: bool
    """Nothing more is stored at this moment."""


class LogPage(View):
    """A piece of the child's output."""

    attempt: int
    offset: int
    next_offset: int
    num_bytes: int
    text: str
