"""What verl takes though it is wrong: names it does not know, numbers that do not divide, files that are not there.

verl 0.9.1 checks little of this before workers run, and some of it never. Values that came in through `native` are
checked like ours. Pure, but for the look at files.
"""

import math
import re
from collections.abc import Callable, Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final, get_args

from finery.core.errors import Problem
from finery.training.specs.policy_gradient import Advantage, PolicyLoss
from finery.training.verl.placing import ACTOR, MODEL, ROLLOUT
from finery.training.verl.sheet import Inputs, Translation, raise_problems

_STRATEGIES: Final = ("fsdp", "fsdp2", "megatron")
_MODES: Final = ("auto", "disable", "resume_path")
_ENUMS: Final[dict[str, tuple[Any, ...]]] = {
    "algorithm.adv_estimator": ("gae", *get_args(Advantage)),
    "algorithm.kl_ctrl.type": ("fixed", "adaptive"),
    "algorithm.kl_penalty": ("kl", "abs", "mse", "low_var_kl"),
    "algorithm.rollout_correction.rollout_is": (None, "token", "sequence"),
    f"{ACTOR}.strategy": _STRATEGIES,
    f"{ACTOR}.policy_loss.loss_mode": get_args(PolicyLoss),
    f"{ACTOR}.loss_agg_mode": (
        "token-mean",
        "token-sum",
        "seq-mean-token-sum",
        "seq-mean-token-mean",
        "seq-mean-token-sum-norm",
    ),
    f"{ROLLOUT}.name": ("vllm", "sglang", "trtllm", "hfcpu"),
    f"{ROLLOUT}.mode": ("async",),
    f"{ROLLOUT}.dtype": ("bfloat16", "float16", "float32"),
    f"{ROLLOUT}.load_format": ("dummy", "safetensors", "auto", "hf", "megatron"),
    f"{ROLLOUT}.checkpoint_engine.backend": (
        "naive",
        "nccl",
        "nixl",
        "mooncake",
        "kimi_ckpt_engine",
        "delta",
        "delta_sharded",
    ),
    "critic.strategy": _STRATEGIES,
    "data.truncation": ("left", "right", "middle", "error"),
    "reward.reward_manager.name": ("naive", "dapo", "gdpo", "rate_limited", "remote"),
    "trainer.device": ("cpu", "cuda", "npu"),
    "trainer.resume_mode": _MODES,
    "trainer.v1.trainer_mode": ("sync", "colocate_async", "separate_async"),
    "trainer.v1.sampler.max_off_policy_strategy": ("drop", "wait"),
}
"""Keys that verl looks up late or never, and the values that it knows."""

_WHOLE: Final = re.compile(
    r"(_size|_steps|_per_gpu|_per_node|_freq|_length|_epochs|_workers|\.nnodes|\.rank|lora_rank|\.n|_to_keep|seed|_k)$"
)
_NUMBER: Final = re.compile(r"(\.lr|_coeff?|_ratio|_decay|\.gamma|\.lam|temperature|top_p|_threshold|_utilization)$")
_SWITCH: Final = re.compile(r"(\.enable|_offload|\.use_\w+|\.shuffle|\.enable_\w+|\.trust_remote_code|do_sample)$")


def check(translation: Translation, *, inputs: Inputs, files: bool = True) -> None:
    """Refuse what verl would take though it is wrong.

    Args:
        translation: Of a job.
        inputs: That it was made from.
        files: Look whether the files are there.

    Raises:
        InvalidSpec: one problem for each, with the field of the job file.
    """
    look = _Look(translation)
    problems = [*_types(look), *_enums(look)]
    if not problems:  # numbers that are none cannot be divided
        problems += _sft(look) if translation.entry == "sft" else [*_batches(look), *_drawing(look), *_options(look)]
        problems += [*_machines(look), *_rows(look, inputs)]
    if files:
        problems += _files(look, inputs)
    raise_problems(problems)


class _Look:
    """Values by key, and complaints about them by field."""

    def __init__(self, translation: Translation):
        self.translation = translation
        self.get: Callable[..., Any] = translation.get

    def items(self) -> Iterator[tuple[str, Any]]:
        for key, value in self.translation.settings.items():
            yield key.lstrip("+"), value

    def problem(self, key: str, message: str) -> Problem:
        return Problem(self.translation.origins.get(key, ""), message)

    @property
    def is_sft(self) -> bool:
        return self.translation.entry == "sft"

    @property
    def is_megatron(self) -> bool:
        return bool(self.get("engine" if self.is_sft else f"{ACTOR}.strategy") == "megatron")

    @property
    def world(self) -> int:
        """Processes that train."""
        return int(self.get("trainer.nnodes")) * int(self.get("trainer.n_gpus_per_node"))

    @property
    def engine(self) -> str:
        if self.is_sft:
            return "engine"
        return f"{ACTOR}.megatron" if self.is_megatron else f"{ACTOR}.fsdp_config"

    def parallel(self, name: str) -> int:
        return int(self.get(f"{self.engine}.{name}", 1))

    @property
    def replica(self) -> int:
        """Processes that work on the same rows."""
        if not self.is_megatron:
            return self.parallel("ulysses_sequence_parallel_size")
        names = ("tensor_model_parallel_size", "pipeline_model_parallel_size", "context_parallel_size")
        return self.parallel(names[0]) * self.parallel(names[1]) * self.parallel(names[2])

    @property
    def num_replicas(self) -> int:
        return max(1, self.world // self.replica)


def _types(look: _Look) -> Iterator[Problem]:
    """Numbers and switches that are written as something else."""
    for key, value in look.items():
        if value is None:
            continue
        if _SWITCH.search(key) and not isinstance(value, bool):
            yield look.problem(key, f"{key} is true or false, but it is {value!r}")
        elif _WHOLE.search(key) and (isinstance(value, bool) or not isinstance(value, int)):
            yield look.problem(key, f"{key} is a whole number, but it is {value!r}")
        elif _NUMBER.search(key) and not _is_number(key, value):
            yield look.problem(key, f"{key} is a number, but it is {value!r}")


def _is_number(key: str, value: Any) -> bool:
    if key.endswith("_threshold") and re.fullmatch(r"[\d.]+(_[\d.]+)?", str(value)):
        return True  # verl reads "0.5_2.0" as two bounds
    return isinstance(value, int | float) and not isinstance(value, bool)


def _enums(look: _Look) -> Iterator[Problem]:
    for key, known in _ENUMS.items():
        value = look.get(key, known[0])
        if value not in known:
            names = [str(one) for one in known if one is not None]
            near = get_close_matches(str(value), names, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            yield look.problem(key, f"{key} has no value {value!r}; it is one of {', '.join(names)}{hint}")


def _batches(look: _Look) -> Iterator[Problem]:
    """Prompts and completions, over mini batches, processes and micro batches."""
    prompts, size = look.get("data.train_batch_size"), look.get(f"{ROLLOUT}.n")
    mini, micro = look.get(f"{ACTOR}.ppo_mini_batch_size"), look.get(f"{ACTOR}.ppo_micro_batch_size_per_gpu")
    world, replicas = look.world, look.num_replicas
    unit = replicas if look.is_megatron else world
    is_ppo = look.translation.origins.get("data.train_batch_size") == "task.prompts_per_batch"
    if prompts * size % unit:
        asked = prompts if is_ppo else mini  # what the field says; a batch may be several times as many
        step = unit // math.gcd(unit, size * max(1, prompts // asked))
        yield look.problem(
            "data.train_batch_size",
            f"{prompts} prompts with {size} completions each are {prompts * size}, which must be a multiple of the "
            f"{unit} {'replicas' if look.is_megatron else 'processes'} that train; {_near(asked, step, 'prompts')}, or "
            "change resources",
        )
    elif prompts % mini:
        yield look.problem(
            f"{ACTOR}.ppo_mini_batch_size",
            f"a batch of {prompts} prompts must be a multiple of a mini batch of {mini}; {_near(prompts, mini)}",
        )
    elif mini * size % replicas:
        step = replicas // math.gcd(replicas, size)
        advice = _near(mini * size, step * size, "completions") if is_ppo else _near(mini, step, "prompts")
        yield look.problem(
            f"{ACTOR}.ppo_mini_batch_size",
            f"an optimizer step takes {mini * size} completions, which must be a multiple of the {replicas} replicas "
            f"of the model; {advice}, or change resources or parallel",
        )
    elif mini * size // replicas % micro:
        share = mini * size // replicas
        yield look.problem(
            f"{ACTOR}.ppo_micro_batch_size_per_gpu",
            f"an optimizer step is {share} completions for each replica of the model, which must be a multiple of "
            f"micro_batch_size ({micro}); set {_divisor(share, micro)}, or leave it out",
        )


def _drawing(look: _Look) -> Iterator[Problem]:
    """The policy's copies that draw, over the GPUs that they have."""
    width, key = look.get(f"{ROLLOUT}.tensor_model_parallel_size"), f"{ROLLOUT}.tensor_model_parallel_size"
    nodes, per_node = look.get(f"{ROLLOUT}.nnodes"), look.get(f"{ROLLOUT}.n_gpus_per_node")
    if look.translation.entry == "one_step_off":
        nodes, per_node = look.get("rollout.nnodes"), look.get("rollout.n_gpus_per_node")
    if nodes is None:
        nodes, per_node = look.get("trainer.nnodes"), look.get("trainer.n_gpus_per_node")
    if per_node % width and width % per_node or nodes * per_node % width:
        yield look.problem(
            key,
            f"tensor_parallel ({width}) must divide the {per_node} GPUs of each machine that draw; set "
            f"{_divisor(per_node, width)}, or change resources.gpus",
        )


def _options(look: _Look) -> Iterator[Problem]:
    """Options that exclude each other."""
    if look.get("critic.strategy", look.get(f"{ACTOR}.strategy")) != look.get(f"{ACTOR}.strategy"):
        yield look.problem("critic.strategy", "actor and critic have one strategy; remove one of the two")
    for engine in (f"{ACTOR}.fsdp_config", "actor_rollout_ref.ref.fsdp_config", "critic.fsdp"):
        key = f"{engine}.offload_policy"
        if look.get(key) and look.get(f"{ACTOR}.strategy") != "fsdp2":
            yield look.problem(key, f"{key} is for fsdp2; set parallel.strategy: fsdp2, or remove it")
        elif look.get(key) and (look.get(f"{engine}.param_offload") or look.get(f"{engine}.optimizer_offload")):
            yield look.problem(
                key, f"{key} moves weights and optimizer already; set offload_parameters and offload_optimizer: false"
            )
    if look.get(f"{ACTOR}.policy_loss.loss_mode") == "dro" and not look.get(f"{ACTOR}.policy_loss.dro_beta"):
        yield look.problem(f"{ACTOR}.policy_loss.dro_beta", "the loss dro needs dro_beta above 0")
    if look.get(f"{ACTOR}.clip_ratio_c", 3.0) <= 1:
        yield look.problem(f"{ACTOR}.clip_ratio_c", "max_ratio must be above 1")
    has_padding = look.get(f"{MODEL}.use_remove_padding") is False
    if look.get(f"{ACTOR}.ulysses_sequence_parallel_size", 1) > 1 and has_padding:
        yield look.problem(
            f"{ACTOR}.ulysses_sequence_parallel_size", "sequences are split without padding alone; set sequence: 1"
        )


def _sft(look: _Look) -> Iterator[Problem]:
    size, micro, replicas = (
        look.get("data.train_batch_size"),
        look.get("data.micro_batch_size_per_gpu"),
        look.num_replicas,
    )
    if size % replicas:
        yield look.problem(
            "data.train_batch_size",
            f"batch_size ({size}) must be a multiple of the {replicas} replicas of the model; {_near(size, replicas)}, "
            "or change resources or parallel",
        )
    elif size // replicas % micro and not look.get("data.use_dynamic_bsz"):
        share = size // replicas
        yield look.problem(
            "data.micro_batch_size_per_gpu",
            f"batch_size is {share} rows for each replica of the model, which must be a multiple of micro_batch_size "
            f"({micro}); set {_divisor(share, micro)}, or leave it out",
        )


def _machines(look: _Look) -> Iterator[Problem]:
    """The ways in which a model is split, over the processes that train."""
    world, replica = look.world, look.replica
    if world % replica:
        names = "tensor * pipeline * context" if look.is_megatron else "sequence"
        first = "tensor_model_parallel_size" if look.is_megatron else "ulysses_sequence_parallel_size"
        yield look.problem(
            f"{look.engine}.{first}",
            f"parallel.{names} ({replica}) must divide the {world} processes that train; change it, or resources",
        )
    if look.is_megatron:
        groups = look.parallel("expert_model_parallel_size") * look.parallel("pipeline_model_parallel_size")
        if look.parallel("expert_model_parallel_size") > 1 and world % groups:
            yield look.problem(
                f"{look.engine}.expert_model_parallel_size",
                f"parallel.expert * pipeline ({groups}) must divide the {world} processes that train",
            )
        return
    shards = look.parallel("fsdp_size")
    if shards > 0 and world % shards:
        yield look.problem(
            f"{look.engine}.fsdp_size",
            f"parallel.fsdp_size ({shards}) must divide the {world} processes that train; set "
            f"{_divisor(world, shards)}",
        )


def _rows(look: _Look, inputs: Inputs) -> Iterator[Problem]:
    """verl makes no step from fewer rows than a batch."""
    size = look.get("data.train_batch_size")
    if inputs.num_rows is not None and inputs.num_rows < size:
        yield look.problem(
            "data.train_batch_size",
            f"the data have {inputs.num_rows} rows, fewer than the {size} of a step, and verl leaves incomplete "
            f"batches out; set it to {inputs.num_rows} at most, or bring more rows",
        )


def _files(look: _Look, inputs: Inputs) -> Iterator[Problem]:
    if not (inputs.model / "config.json").is_file():
        yield Problem("task.model.base", f"there is no model in {inputs.model}: it has no config.json")
    named: tuple[tuple[str, Path | None], ...] = (
        ("task.data.train", inputs.train),
        ("task.rewards", None if look.is_sft else inputs.reward_file),
        ("", inputs.validation),
    )
    for field, path in named:
        if path is not None and not path.is_file():
            yield Problem(field, f"there is no file {path}")
    if not look.is_sft and inputs.reward_file is None:
        yield Problem("task.rewards", "there is no file with the reward function")
    if inputs.resume_from is not None and not re.fullmatch(r"global_step_\d+", inputs.resume_from.name):
        yield Problem("", f"verl goes on from folders global_step_N, not {inputs.resume_from.name}")


def _near(size: int, unit: int, what: str = "") -> str:
    """The multiples of `unit` on both sides of `size`, and of what they are a number."""
    below, above = size - size % unit, size + unit - size % unit
    counted = f" {what}" if what else ""
    return f"{below} or {above}{counted} would be right" if below else f"{above}{counted} would be right"


def _divisor(size: int, wanted: int) -> int:
    """The largest divisor that is not above what was wanted."""
    return next(one for one in range(min(size, max(1, wanted)), 0, -1) if size % one == 0)
