"""How metrics and samples look from outside."""

from typing import Any, Literal

from pydantic import Field

from finery.core.events import ActionEvent, AlertEvent, ClusterEvent, MetricValue
from finery.core.spec import Spec, View
from finery.jobs.specs import RequestView, Verb
from finery.rules.specs import Severity

GradientBy = Literal["layer", "tensor", "group"]
GradientMetric = Literal[
    "norm",
    "mean",
    "std",
    "variance",
    "min",
    "p1",
    "p5",
    "p25",
    "p50",
    "p75",
    "p95",
    "p99",
    "max",
    "share_non_finite",
    "weight_norm",
    "weight_update_ratio",
    "activation_rms",
]
"""Of the gradients before clipping, but for the last three: L2 norm of the weights before the step, L2 norm of their
change over that, and root mean square of what the modules put out."""
Combination = Literal["max", "min", "largest"]
"""What stands for several values: the highest, the lowest, or the one that lies farthest from zero."""


class SeriesView(View):
    """One metric of one attempt."""

    name: str
    attempt: int
    writer: str
    steps: list[int]
    times: list[float]
    """Seconds since the Unix epoch."""
    values: list[MetricValue]
    num_points: int
    """Points that are stored within the steps that were asked for; more than are here when the series was thinned."""


class SeriesPage(View):
    series: list[SeriesView]
    cursor: int
    """The job's newest cursor when the series were read; follow the live stream after it."""


class MetricSummary(View):
    """A metric and its range."""

    name: str
    attempt: int
    num_points: int
    last_step: int
    last: MetricValue
    min: float | None
    """Over finite values; None when there is none."""
    max: float | None
    num_non_finite: int


class MetricPage(View):
    metrics: list[MetricSummary]
    cursor: int
    """The job's newest cursor when they were read: a metric that is not here appears after it."""


RolloutSort = Literal["index", "reward", "advantage", "length"]


class RolloutHistory(View):
    """Recorded rollouts over the steps. One entry a column, which is a step, or several where there are more steps than
    columns. Means are over completions; None is what nobody knows."""

    first_steps: list[int]
    last_steps: list[int]
    attempts: list[int]
    reward: list[float | None]
    tokens: list[float | None]
    """Mean length in tokens."""
    truncated: list[float | None]
    """Share of completions that ran into the limit."""
    diversity: list[float | None]
    """Share of different 4-grams of words among those of a prompt's completions."""
    num_steps: int
    """Recorded steps in the window."""
    num_rollouts: int
    first_step: int | None
    """First of all recorded steps, whatever the window; None where there is none."""
    last_step: int | None


class RolloutGroup(View):
    """The completions of one prompt at one step."""

    prompt_key: str
    """The same for the same prompt at other steps."""
    prompt: str
    """Its beginning."""
    row: int | None
    """Number of the prompt's row in the data."""
    num: int
    reward: float | None
    tokens: float | None
    truncated: float | None
    diversity: float | None


class RolloutRow(View):
    """A completion in a list."""

    index: int
    """Its place in the step."""
    group: int
    """Place of its prompt in the step."""
    preview: str
    """The beginning of its text."""
    reward: float | None
    """Weighted sum of the parts; None where a part failed."""
    rewards: dict[str, float | None]
    """Parts, unweighted."""
    advantage: float | None
    length: int | None
    """Tokens."""
    is_truncated: bool


class RolloutPage(View):
    """Completions of one step."""

    step: int | None
    """None where nothing was recorded at all."""
    attempt: int | None
    previous_step: int | None
    next_step: int | None
    parts: list[str]
    """Names of the parts of the reward."""
    groups: list[RolloutGroup]
    rollouts: list[RolloutRow]
    num_rollouts: int
    """Of the step, whatever is asked for."""
    num_matching: int
    num_unreadable: int
    """Lines of the step that are lost or damaged."""
    num_left_out: int
    """Of a step with more completions than are looked at."""


class RolloutView(View):
    """A completion with all that is known of its tokens. What an earlier version did not record is None."""

    step: int
    attempt: int
    index: int
    group: int
    prompt_key: str
    prompt: str
    completion: str
    answer: str | None
    """What the data says."""
    model: str | None
    """Who wrote it, where several were compared."""
    row: int | None
    reward: float | None
    rewards: dict[str, float | None]
    weights: dict[str, float] | None
    advantage: float | None
    """The mean over tokens where each has its own."""
    length: int | None
    is_truncated: bool
    tokens: list[str] | None
    """The text of each token. A character of several tokens belongs to the last of them."""
    logprob: list[float | None] | None
    """Log-probability of each token under the policy that drew it, in nats, before top_k and top_p."""
    entropy: list[float | None] | None
    """Entropy of the policy where the token was drawn, in nats."""
    kl: list[float | None] | None
    """Estimate (k3) of the divergence from the reference at each token, in nats; None without a reference."""
    advantages: list[float | None] | None
    """Of each token, where they differ."""


class PromptStep(View):
    """The completions of a prompt at one step."""

    step: int
    attempt: int
    reward: float | None
    tokens: float | None
    truncated: float | None
    diversity: float | None
    rollouts: list[RolloutRow]


class PromptHistory(View):
    """One prompt over the steps."""

    prompt_key: str
    prompt: str
    num_steps: int
    """Steps at which it was recorded; those that are listed are spread evenly."""
    steps: list[PromptStep]


class RolloutPlace(View):
    step: int
    index: int


class DetectorView(View):
    """What a detector of reward hacking says."""

    name: Literal["shrinking_diversity", "length_creep", "repetition", "answer_without_reasoning"]
    verdict: Literal["found", "clear", "too_little"]
    message: str
    figures: dict[str, float]
    """`early` and `late` of what the detector looks at, `t` of the change, `reward_early` and `reward_late`; empty for
    too little data."""
    early: list[int]
    """First and last step of what is called early; empty for too little data."""
    late: list[int]
    samples: list[RolloutPlace]


class DetectorPage(View):
    detectors: list[DetectorView]
    num_steps: int
    """Recorded steps that were read."""


class AlertView(View):
    """Something that a person should know, and of which job."""

    job_id: int
    job_name: str
    attempt: int
    alert: AlertEvent


class StoryEntry(View):
    """An alert, or what a rule did about it."""

    cursor: int
    attempt: int
    event: AlertEvent | ActionEvent = Field(discriminator="type")
    undo: Verb | None
    """What would be asked of the job to undo an action; None where there is no way, or it was asked for already."""
    undo_values: dict[str, float]
    """With which values: the settings as they were, or the attempt and step to go on from."""
    undone: RequestView | None
    """The newest wish to undo it, and what became of that."""


class StoryPage(View):
    """Newest first."""

    entries: list[StoryEntry]
    total: int
    num_alerts: int
    """Of all, also those that are not here."""


class ClusterView(View):
    """The Ray cluster under a run."""

    attempt: int | None
    """The one that told of it; None where none did, as of a run that needs no cluster."""
    seen: ClusterEvent | None
    """As it was when it last changed."""


class RuleActionView(View):
    """What a rule asks for."""

    name: str
    params: dict[str, Any]
    """Those that the rule names."""


class RuleView(View):
    """A rule that watches a run."""

    name: str
    when: str
    """Its condition."""
    actions: list[RuleActionView]
    severity: Severity
    cooldown_steps: int
    max_count: int
    num_fired: int
    """In the life of the job."""
    is_muted: bool
    """A person has taken back where it went to: it keeps quiet for the rest of the job."""
    is_of_steps: bool
    """Judged in the run, over its metrics; else from outside, as time goes by."""
    spec: dict[str, Any]
    """As in a job file, without what is as by default."""


class JobRulesView(View):
    """What watches a run."""

    rules: list[RuleView]
    """In the order of their precedence."""
    is_default: bool
    """The job file names none, so it is the default set."""


class RulesText(Spec):
    """Rules to try."""

    text: str = Field("", max_length=100_000)
    """YAML or JSON, a list of rules or a job file; empty takes those of the job, or the default set."""


class FiringView(View):
    """A rule would have fired."""

    rule: str
    severity: Severity
    attempt: int
    step: int
    message: str
    """What it would have seen."""
    actions: list[str]
    is_exhausted: bool
    """It would have gone back once more than it may, which fails the run."""


class RehearsalView(View):
    """What rules would have done in a run, had nothing been changed by them."""

    firings: list[FiringView]
    num_steps: int
    """Steps that were judged."""
    num_cut: int
    """Older steps that were left out."""
    rules: list[str]
    """Those that were judged."""
    left_out: list[str]
    """Rules over silence, states and scores of checkpoints: they are judged from outside, as time goes by."""
    unknown_metrics: list[str]
    """Named by a rule, and never measured in this run."""


class ActionView(View):
    """An action that a rule may take."""

    name: str
    summary: str
    json_schema: dict[str, Any]
    """Of its parameters."""


class RulesView(View):
    """What rules are made of."""

    text: str
    """The default set, as YAML."""
    actions: list[ActionView]


class AlertPage(View):
    alerts: list[AlertView]


class GradientRow(View):
    """A tensor, layer or group; several that follow each other where there are more than rows."""

    first: str
    last: str
    num: int


class GradientColumn(View):
    """A probed step; several that follow each other where there are more than columns."""

    first_step: int
    last_step: int
    attempt: int
    """Of the last of these steps."""


class GradientWindow(View):
    """Layers by steps. Only steps that the run stands on: what a resumed attempt did again counts once."""

    metric: GradientMetric
    by: GradientBy
    combination: Combination
    """What stands for the steps of a column and the things of a row."""
    rows: list[GradientRow]
    """In the order of the model."""
    columns: list[GradientColumn]
    values: list[list[float | None]]
    """One list for each row. None is what was not measured, or is not finite."""
    first_step: int | None
    """First of all probed steps, whatever the window; None where there is none."""
    last_step: int | None
    num_steps: int
    """Probed steps in the window."""


class GradientHistogram(View):
    """The gradient of a tensor, layer or group at one step."""

    by: GradientBy
    name: str
    step: int
    attempt: int
    exponents: list[int]
    """Bins: e holds the values whose magnitudes are from 2^e to below 2^(e+1), -127 all that is smaller, zero among it.
    What is not finite is in none."""
    negative: list[int]
    """Number of negative values in each bin."""
    positive: list[int]
    statistics: dict[GradientMetric, float | None]


class GradientSeries(View):
    """All statistics of a tensor, layer or group over the steps."""

    by: GradientBy
    name: str
    columns: list[GradientColumn]
    values: dict[GradientMetric, list[float | None]]
    """One value for each column, combined as in `GradientWindow`."""
