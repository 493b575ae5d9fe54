"""What the algorithms' specs are made of."""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, model_validator

from finery.core.spec import ADVANCED, Spec

EngineName = Literal["auto", "trl", "verl"]


class DataSpec(Spec):
    """What is trained on."""

    train: str = Field(min_length=1)
    """A dataset version (`arithmetic@1`; `arithmetic` takes the newest and pins it), or a file (`./train.jsonl`)."""
    max_prompt_tokens: int = Field(512, ge=1)
    """Longer prompts are cut on the left."""
    max_tokens: int = Field(1024, ge=2)
    """Prompt and response together; longer rows are cut on the right (SFT)."""
    shuffle: bool = Field(True, json_schema_extra=ADVANCED)
    """Visit rows in an order drawn from the job's seed; otherwise in file order."""


class OptimSpec(Spec):
    """The optimizer and its schedule."""

    kind: Literal["adamw", "adamw_8bit", "paged_adamw", "paged_adamw_8bit", "lion", "lion_8bit", "adafactor", "sgd"] = (
        Field("adamw", json_schema_extra=ADVANCED)
    )
    """AdamW (arXiv:1711.05101) keeps 8 bytes per trained weight; with 8-bit states 2 (arXiv:2110.02861); paged ones
    move to host memory when a GPU is full. Lion (arXiv:2302.06675) keeps 4, or 1 in 8 bits, and wants a learning rate
    3 to 10 times smaller. Adafactor (arXiv:1804.04235, with this learning rate, not its own) keeps next to nothing,
    SGD (without momentum) nothing."""
    learning_rate: float = Field(1e-5, gt=0)
    steps: int = Field(60, ge=1)
    """Optimizer steps in all."""
    warmup_steps: int = Field(0, ge=0)
    """Steps over which the learning rate rises linearly from zero."""
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    """After the warm-up: stay, or fall to zero at the last step."""
    weight_decay: float = Field(0.0, ge=0, json_schema_extra=ADVANCED)
    beta1: float = Field(0.9, ge=0, lt=1, json_schema_extra=ADVANCED)
    """Decay of the mean of gradients (AdamW, Lion)."""
    beta2: float = Field(0.999, ge=0, lt=1, json_schema_extra=ADVANCED)
    """Decay of the mean of squared gradients (AdamW), or of the mean kept (Lion)."""
    epsilon: float = Field(1e-8, gt=0, json_schema_extra=ADVANCED)
    """Added to the divisor (AdamW)."""
    max_grad_norm: float = Field(1.0, ge=0, json_schema_extra=ADVANCED)
    """Gradients are scaled down to this L2 norm; 0 leaves them."""
    ema_decay: float = Field(0.0, ge=0, lt=1, json_schema_extra=ADVANCED)
    """Keep an exponential moving average of the trained weights and save it with each checkpoint, as
    `job:41/step:200/ema`; 0.999 looks back over about 1,000 steps, and over fewer at the start. Costs 4 bytes per
    trained weight; 0 keeps none."""


class RewardSpec(Spec):
    """One part of the reward."""

    name: str
    """Name in the reward registry: `math_equal`, `exact`, `choice`, `format`, `length`, `repetition`, `code_tests`,
    `reward_model`, `llm_judge`, `python_file`."""
    weight: float = 1.0
    on_error: Literal["fail", "zero", "skip"] = Field("fail", json_schema_extra=ADVANCED)
    """What happens to a completion for which the reward raises or gives no finite number: the job fails, this part of
    its reward is 0, or it is left out: of the mean reward, of its group, and of the gradient. Each is recorded."""
    params: dict[str, Any] = {}
    """Checked against the reward's params model."""

    @model_validator(mode="before")
    @classmethod
    def _may_be_a_name(cls, raw: Any) -> Any:
        return {"name": raw.strip()} if isinstance(raw, str) else raw


class Rewarded(Spec):
    """What is trained by rewards."""

    rewards: tuple[RewardSpec, ...] = Field(min_length=1)
    """Parts of the reward, added up by weight. In short: `rewards: "math_equal,format"` and, beside it,
    `reward_weights: "1.0,0.5"`."""

    @model_validator(mode="before")
    @classmethod
    def _may_be_short(cls, raw: Any) -> Any:
        if not isinstance(raw, Mapping) or not isinstance(raw.get("rewards"), str) and "reward_weights" not in raw:
            return raw
        rewards, weights = _listed(raw.get("rewards", ())), _listed(raw.get("reward_weights"))
        if weights is not None and rewards is not None:
            if len(weights) != len(rewards):
                raise ValueError(f"reward_weights has {len(weights)} weights for {len(rewards)} rewards")
            rewards = [_weighted(reward, weight) for reward, weight in zip(rewards, weights, strict=True)]
        return {key: value for key, value in raw.items() if key != "reward_weights"} | {"rewards": rewards}


def _listed(raw: Any) -> Any:
    """A list as it may be written on a command line."""
    if isinstance(raw, str):
        return [part.strip() for part in raw.split(",")]
    return [raw] if isinstance(raw, int | float) else raw


def _weighted(reward: Any, weight: Any) -> Any:
    if isinstance(reward, Mapping) and "weight" in reward:
        raise ValueError(f"reward_weights gives {reward.get('name')} a second weight; write one of the two")
    return {**(reward if isinstance(reward, Mapping) else {"name": reward}), "weight": weight}


class DrawSpec(Spec):
    """How completions are drawn from a model."""

    completions_per_prompt: int = Field(8, ge=2)
    """Size of a group. The group's mean reward is the baseline, so one is not enough."""
    max_new_tokens: int = Field(96, ge=1)
    temperature: float = Field(1.0, gt=0)
    top_p: float = Field(1.0, gt=0, le=1, json_schema_extra=ADVANCED)
    top_k: int = Field(0, ge=0, json_schema_extra=ADVANCED)
    """0 considers every token."""


class RolloutSpec(DrawSpec):
    """How completions are drawn from the policy, and where. All below `top_k` is for engine verl."""

    engine: Literal["auto", "vllm", "sglang", "hf"] = Field("auto", json_schema_extra=ADVANCED)
    """What draws them on a cluster; `auto` is vllm on GPUs and NPUs, hf on a CPU."""
    tensor_parallel: int = Field(1, ge=1, json_schema_extra=ADVANCED)
    """GPUs that hold one copy of the policy together while it draws."""
    gpu_memory_utilization: float = Field(0.5, gt=0, lt=1, json_schema_extra=ADVANCED)
    """Share of a GPU's memory that the drawing policy may take, weights and cache."""
    mode: Literal["sync", "colocated_async", "one_step_off", "disaggregated_async"] = Field(
        "sync", json_schema_extra=ADVANCED
    )
    """When completions are drawn: by the policy as it is, before each step (sync); long ones go on over steps, on the
    same GPUs (colocated_async); on other GPUs, by the policy of one step before (one_step_off); on other GPUs and all
    the time (disaggregated_async)."""
    gpus: int | None = Field(None, ge=1, json_schema_extra=ADVANCED)
    """GPUs of each machine, out of `resources.gpus`, that only draw, in the modes one_step_off and
    disaggregated_async; None takes half of them."""
    max_staleness: int | None = Field(None, ge=1, json_schema_extra=ADVANCED)
    """In asynchronous modes, updates of the policy that a completion may be behind when it is learned from; older ones
    are left out. None has no bound."""
    partial_rollout: bool | None = Field(None, json_schema_extra=ADVANCED)
    """Whether a completion that is not finished when the policy changes is gone on with instead of drawn anew. None is
    as the mode does: yes in colocated_async and disaggregated_async, else no."""
    oversample: float | None = Field(None, ge=0, le=16, json_schema_extra=ADVANCED)
    """Prompts that are being answered beyond those of one batch, as a share of a batch. None is 1 in colocated_async
    and disaggregated_async, else 0."""
    group_filter: str = Field("none", min_length=1, max_length=100, json_schema_extra=ADVANCED)
    """Other prompts take the place of those whose completions all have the same: `reward`, or the reward of this name;
    of three batches at most, or `dynamic_sampling_rounds` of DAPO. `none` keeps them."""
    importance_correction: Literal["none", "token", "sequence"] = Field("none", json_schema_extra=ADVANCED)
    """Whether the loss is weighted by how much likelier the policy finds what was drawn than what drew it does: per
    token, per completion, or not (arXiv:2510.18927)."""
    importance_threshold: float = Field(2.0, gt=1, json_schema_extra=ADVANCED)
    """These weights are at most so large."""


def check_micro_batch(batch: int, micro: int | None, name: str) -> None:
    """Refuse a batch that does not fall into whole micro batches."""
    if micro and batch % micro:
        raise ValueError(f"{name} ({batch}) must be a multiple of micro_batch_size ({micro})")
