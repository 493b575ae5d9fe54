"""From a job file to the memory and speed that it is expected to take on a device, before it runs.

Pure. Owns: what each field of a training task means for the planner, engine by engine. Does not own: memory of a step
(planner), which machine a job runs on and where its model lies (machines), figures of a CPU (cpu).
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from finery.core.errors import FineryError, InvalidSpec
from finery.core.spec import parse
from finery.jobs.specs import JobSpec, TrainJob
from finery.planner import catalog, cpu, efficiency, shapes
from finery.planner.accelerators import Accelerator
from finery.planner.frameworks import FRAMEWORKS, HF, Framework
from finery.planner.memory import GIB, Adapter, Kernels, Optimizer, Quantization, Recomputation, Split, Step
from finery.planner.phases import GENERATES, PAIRS, REFERS, Algorithm, Phase, Rollout, fullest, timeline
from finery.planner.shapes import ModelShape
from finery.planner.throughput import Precision, operations, tokens_per_second
from finery.planner.ways import BUCKET_BYTES, COMMUNICATOR_GIB, LEFT_BY_ENGINE_GIB, MARGIN, loss_of_trl
from finery.training import memory
from finery.training.specs import PolicyGradientSpec, PpoSpec, SftSpec, TrainTask
from finery.training.specs.groups import GroupSpec
from finery.training.specs.parallel import ParallelSpec

_OF_GROUPS: Final[Mapping[str, Algorithm]] = {"gspo": "grpo", "dapo": "grpo"}
_OPTIMIZERS: Final[Mapping[str, Optimizer]] = {
    "adamw": "adamw",
    "adamw_8bit": "adamw_8bit",
    "paged_adamw": "adamw_paged_8bit",
    "paged_adamw_8bit": "adamw_paged_8bit",
    "lion": "lion",
    "lion_8bit": "lion_8bit",
    "adafactor": "adafactor",
    "sgd": "sgd",
}
"""Paged states are counted as moved to the host."""
_APART: Final = frozenset({"one_step_off", "disaggregated_async"})
"""Modes in which other devices generate than those that train."""
BUILTIN: Final[Mapping[str, Mapping[str, Any]]] = {
    "tiny-char": {
        "model_type": "qwen3",
        "hidden_size": 128,
        "intermediate_size": 384,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "head_dim": 32,
        "vocab_size": 102,
        "tie_word_embeddings": True,
    }
}
"""Built-in models that no catalog has."""


@dataclass(frozen=True)
class Lengths:
    """Tokens of the longest row of a job's data, where they are known. None takes what the job file allows."""

    prompt: int | None = None
    total: int | None = None
    """Prompt and response together."""


@dataclass(frozen=True)
class Estimate:
    """What one job is expected to take of each of its devices."""

    device: str
    """Id of the accelerator."""
    device_name: str
    engine: str
    algorithm: str
    num_devices: int
    usable_bytes: float
    """Of a device. On a CPU the host's memory, divided by the processes."""
    phases: tuple[Phase, ...] = ()
    """Empty where no estimate can be made."""
    tokens_per_second: float | None = None
    """Trained on by all devices together; None where it is not known."""
    reason: str = ""
    """Why there is no estimate."""
    lengths: Lengths = Lengths()
    """Of the data, as far as they were known."""

    @property
    def peak_bytes(self) -> float | None:
        """Of the fullest phase; on a CPU with the interpreter. None without an estimate."""
        return fullest(self.phases).allocated if self.phases else None

    @property
    def peak_phase(self) -> str:
        """Name of the fullest phase; empty without an estimate."""
        return fullest(self.phases).name if self.phases else ""

    @property
    def fits(self) -> bool | None:
        """Whether the peak leaves the margin; None without an estimate."""
        return None if self.peak_bytes is None else self.peak_bytes <= self.usable_bytes


def engine_of(task: TrainTask) -> str:
    """The engine that runs a task."""
    return "trl" if task.engine == "auto" else task.engine


def usable(device: Accelerator, num_devices: int, *, has_engine: bool = False) -> float:
    """Bytes of a device that one process of a job may allocate.

    Args:
        device: Of the job.
        num_devices: Of them, over all machines.
        has_engine: Whether an engine that generates completions sleeps on it.
    """
    if device.vendor == "cpu":
        return device.total_bytes * (1 - MARGIN) / num_devices
    context = device.context_gib - (COMMUNICATOR_GIB if num_devices == 1 else 0.0)
    context = max(0.0, context) + (LEFT_BY_ENGINE_GIB if has_engine else 0.0)
    return (device.total_bytes - context * GIB) * (1 - MARGIN)


def estimate(
    spec: JobSpec, shape: ModelShape | None, device: Accelerator, num_devices: int = 1, *, lengths: Lengths = Lengths()
) -> Estimate:
    """Predict the memory of each phase of a training job.

    Args:
        spec: The job file.
        shape: Of its model; None where it is not known.
        device: What each of its processes runs on.
        num_devices: Of them, over all machines. On a CPU, processes.
        lengths: Of its data.
    """
    if not isinstance(spec, TrainJob):
        return Estimate(
            device.id,
            device.name,
            "",
            spec.kind,
            num_devices,
            usable(device, num_devices),
            reason="only jobs of kind train are estimated",
        )
    task = spec.task
    has_engine = task.engine == "verl" and isinstance(task, GroupSpec | PpoSpec) and task.rollout.mode not in _APART
    usable_bytes = usable(device, num_devices, has_engine=has_engine)
    found = Estimate(
        device.id, device.name, engine_of(task), task.algorithm, num_devices, usable_bytes, lengths=lengths
    )
    reason = _reason(task, shape, device)
    if reason or shape is None:
        return replace(found, reason=reason)
    try:
        plan = _Plan(task, shape, device, num_devices, spec.resources.nodes, lengths)
        return replace(found, phases=plan.phases(), tokens_per_second=plan.speed())
    except InvalidSpec as error:
        return replace(found, reason=str(error))


def shape_of(base: str, folder: Path | None = None) -> ModelShape:
    """The shape of a model: from the config.json of its folder, else by its name.

    Args:
        base: As a job file names it.
        folder: Where it lies, if it is here.

    Raises:
        NotFound: neither says. InvalidSpec: its config.json cannot be used.
    """
    if folder is not None and (fields := _config(folder)) is not None:
        return shapes.from_config(fields)
    if base in BUILTIN:
        return shapes.from_config(BUILTIN[base])
    return shapes.from_config(catalog.shape_fields(base.removeprefix("modelscope:").partition("@")[0]))


def would_fit(
    spec: TrainJob, shape: ModelShape, device: Accelerator, num_devices: int = 1, *, lengths: Lengths = Lengths()
) -> tuple[str, ...]:
    """Changes of a job file with which the same estimate fits, those that change least first; at most three."""
    found: list[dict[str, Any]] = []
    for changes in _changes(spec, num_devices):
        if any(one.items() <= changes.items() for one in found):
            continue
        changed = _changed(spec, changes)
        if changed is not None and estimate(changed, shape, device, num_devices, lengths=lengths).fits:
            found.append(changes)
    return tuple(
        " and ".join(f"{key.removeprefix('task.')}: {_said(value)}" for key, value in changes.items())
        for changes in found[:3]
    )


def warning(estimate_: Estimate, changes: Sequence[str]) -> str:
    """What to tell who submits a job that will not fit."""
    assert estimate_.peak_bytes is not None
    needs, has = estimate_.peak_bytes / GIB, estimate_.usable_bytes / GIB
    where = estimate_.device_name + (" for each process" if estimate_.num_devices > 1 else "")
    advice = f"would fit: {'; or '.join(changes)}" if changes else "no setting of the job file makes it fit"
    return (
        f"about {needs:.1f} GiB are needed while it has to {estimate_.peak_phase}, and {has:.1f} GiB of {where} can be "
        f"used; {advice}"
    )


def _reason(task: TrainTask, shape: ModelShape | None, device: Accelerator) -> str:
    """Why there is no estimate; empty where there is one."""
    if isinstance(task, PolicyGradientSpec):
        return f"what {task.algorithm} keeps is not known to the planner"
    if task.engine == "verl" and device.vendor == "cpu":
        return "of engine verl on a CPU nothing is known: Ray divides the memory between processes of its own"
    if shape is None:
        return f"the shape of model {task.model.base} is not known"
    return ""


def _config(folder: Path) -> Mapping[str, Any] | None:
    """Fields of a folder's config.json, or of that of an adapter's base."""
    path, adapter = folder / "config.json", folder / "adapter_config.json"
    try:
        if path.is_file():
            fields = json.loads(path.read_text("utf-8"))
            return shapes.text_fields(fields)
        if adapter.is_file():
            base = Path(json.loads(adapter.read_text("utf-8")).get("base_model_name_or_path") or "")
            return _config(base) if base.is_absolute() and base != folder else None
    except (OSError, ValueError, AttributeError) as error:
        raise InvalidSpec(f"{folder}: config.json cannot be read: {error}") from None
    return None


@dataclass(frozen=True)
class _Plan:
    """A task as the planner sees it."""

    task: TrainTask
    shape: ModelShape
    device: Accelerator
    num_devices: int
    nodes: int
    lengths: Lengths

    @property
    def algorithm(self) -> Algorithm:
        name = self.task.algorithm
        return _OF_GROUPS.get(name, name)  # type: ignore[arg-type]

    @property
    def on_cpu(self) -> bool:
        return self.device.vendor == "cpu"

    @property
    def is_verl(self) -> bool:
        return self.task.engine == "verl"

    @property
    def num(self) -> int:
        """Devices that train."""
        return self.num_devices - self._num_generating

    def phases(self) -> tuple[Phase, ...]:
        """Each with what is outside the planner's models; of a pipeline both ends, of which the fuller counts."""
        policy = self._policy()
        if policy.split.pipeline == 1:
            return self._phases(policy)
        last = replace(policy, split=replace(policy.split, stage="last"))
        return max(self._phases(policy), self._phases(last), key=lambda phases: fullest(phases).allocated)

    def _phases(self, policy: Step) -> tuple[Phase, ...]:
        task, parallel = self.task, self._parallel
        critic = None
        if isinstance(task, PpoSpec) and task.critic.kind == "separate":
            critic = replace(policy, kernels=replace(policy.kernels, logits=0.0))
        found = timeline(
            self.algorithm,
            policy,
            rollout=self._rollout(policy) if self.algorithm in GENERATES else None,
            critic=critic,
            kl=getattr(task, "kl_coef", 1.0) > 0,
            offloads_reference=parallel is not None and parallel.offload_reference,
            offloads_between=self._offloads_between,
            device_bytes=self.device.total_bytes,
        )
        beside = self._beside(policy)
        away = self._away(found)
        return tuple(self._completed(_without(phase, away), policy, beside) for phase in found)

    def speed(self) -> float | None:
        """Tokens in a second of all devices; None where completions are generated, and of a device without a peak."""
        number = self._precision
        if self.algorithm in GENERATES or not getattr(self.device, number):
            return None
        seq_len, rows, _ = self._pass()
        split, attended = self._split(), min(seq_len, self.lengths.total or seq_len)  # packed rows are blind to others
        experts = self.shape.experts
        reached = efficiency.share(
            "megatron" if self._is_megatron else "transformers",
            self.device,
            number,
            is_mixture=experts is not None,
            active=self.shape.active_parameters,
            expert_width=experts.intermediate if experts is not None else None,
            tokens=round(seq_len * rows * (2 if self.algorithm in PAIRS else 1) / (split.tensor * split.context)) or 1,
        )
        adapted = self.task.model.lora is not None
        recomputation: Recomputation = "full" if self.task.model.gradient_checkpointing else "none"
        needed = operations(self.shape, attended, trained=0.0 if adapted else 1.0, recomputation=recomputation)
        found = tokens_per_second(needed, self.device, number, efficiency=reached)
        if self.algorithm in REFERS:
            found /= 1 + needed.forward / needed.executed
        return found * (1 if self.on_cpu else self.num)

    @property
    def _precision(self) -> Precision:
        """That matrices are multiplied in."""
        device = self.device
        if self._numbers()[2] == 4.0:
            return "fp32"
        if self.task.model.dtype == "float16" and device.fp16:
            return "fp16"
        return "bf16" if device.bf16 else "fp16" if device.fp16 else "fp32"

    @property
    def _framework(self) -> Framework:
        """What computes a step, as the planner has it."""
        return FRAMEWORKS["megatron" if self._is_megatron else "verl" if self.is_verl else "transformers"]

    def _policy(self) -> Step:
        """The step of the model that is trained."""
        model, optim = self.task.model, self.task.optim
        seq_len, rows, accumulates = self._pass()
        weights, trained, compute = self._numbers()
        framework = self._framework
        has_master = framework.master and model.lora is None
        quantization: Quantization = {"none": "none", "nf4": "nf4_double", "int8": "int8"}[model.quantize]  # type: ignore[assignment]
        adapter = None
        if model.lora is not None:
            targets = model.lora.target_modules
            kept = targets if isinstance(targets, str) else tuple(targets)
            adapter = Adapter(model.lora.rank, kept, decomposes=model.lora.kind == "dora")
        step = Step(
            self.shape,
            seq_len,
            rows,
            weights=weights,
            trained=trained,
            gradients=framework.gradients if framework.master else trained,
            master=has_master,
            optimizer=_OPTIMIZERS[optim.kind],
            adapter=adapter,
            quantization=quantization,
            recomputation="full" if model.gradient_checkpointing else "none",
            split=self._split(),
            kernels=self._kernels(compute),
            keeps_gradients=framework.keeps_gradients,
            accumulates=accumulates,
            compute=compute,
        )
        if self.algorithm in GENERATES and not self.is_verl and not model.gradient_checkpointing:
            step = cpu.with_cache(step, self._prompt_and_completion()[1] / seq_len)
        return step

    def _numbers(self) -> tuple[float, float, float]:
        """Bytes of a weight as it is held, as it is trained, and of an activation."""
        dtype = self.task.model.dtype
        if self._is_megatron:
            return 2.0, 2.0, 2.0
        if dtype in ("bfloat16", "float16"):
            return 2.0, 2.0, 2.0
        if dtype == "float32" or self.on_cpu or not (self.device.bf16 or self.is_verl):
            return 4.0, 4.0, 4.0
        # Mixed precision: float32 weights, and those of 16 bits that matrices were multiplied with.
        beside = 0.0 if self.is_verl or self.task.model.gradient_checkpointing else 2.0
        return 4.0 + beside, 4.0, 2.0

    def _kernels(self, compute: float) -> Kernels:
        if self._is_megatron:
            return self._framework.kernels
        # Engine trl's optimizers are fused, so that they need no copy.
        found = self._framework.kernels if self.is_verl else replace(HF, step=0.0)
        if self.on_cpu:
            found = cpu.kernels(self.algorithm)
        elif compute == 4.0:
            found = found.in_float32()
        if self.task.model.liger:
            found = replace(found, norm=compute, activation_function=compute, rope_copies=False)
        if not self.on_cpu and not self.is_verl:
            found = loss_of_trl(found, self.algorithm)
        return replace(found, logits=found.logits * self._share_of_logits())

    def _share_of_logits(self) -> float:
        """Part of the tokens of a pass whose logits are computed."""
        if self.is_verl:
            return 1.0
        if self.algorithm in GENERATES:
            assert isinstance(self.task, GroupSpec | PpoSpec)
            return self.task.rollout.max_new_tokens / self._pass()[0]
        is_whole = isinstance(self.task, SftSpec) and (self.task.loss_on == "all" or self.task.packing)
        if is_whole or self.lengths.prompt is None or self.lengths.total is None:
            return 1.0
        return max(0.0, 1 - self.lengths.prompt / max(self.lengths.total, 1))

    def _prompt_and_completion(self) -> tuple[int, int]:
        """Tokens of a prompt, and of prompt and completion, of a task that generates."""
        assert isinstance(self.task, GroupSpec | PpoSpec)
        prompt = self.task.data.max_prompt_tokens
        prompt = min(prompt, self.lengths.prompt or prompt)
        return prompt, prompt + self.task.rollout.max_new_tokens

    def _pass(self) -> tuple[int, int, bool]:
        """Tokens of a row, rows of a forward and backward pass of one process, and whether there are several."""
        task, replicas = self.task, max(1, self.num // self._replica)
        raw = task.model_dump(mode="json")
        share = max(1, _batch_size(task) // replicas)
        rows = min(share, memory.micro_batch_size(raw, replicas)) or 1
        if isinstance(task, GroupSpec | PpoSpec):
            prompt, total = self._prompt_and_completion()
            if self.is_verl or task.model.gradient_checkpointing:
                return total, rows, share > rows
            # Each prompt is computed once for its completions, which lie in a random order.
            prompts = min(rows, -(-_batch_size(task) // task.rollout.completions_per_prompt))
            return task.rollout.max_new_tokens + -(-prompts * prompt // rows), rows, share > rows
        longest = min(task.data.max_tokens, self.lengths.total or task.data.max_tokens)
        if isinstance(task, SftSpec) and task.packing:
            tokens = min(task.data.max_tokens, share * longest)
            return tokens, 1, share * longest > tokens
        return longest, rows, share > rows

    @property
    def _parallel(self) -> ParallelSpec | None:
        """How engine verl splits the model; None for engine trl, each process of which holds everything."""
        found = getattr(self.task, "parallel", None) if self.is_verl else None
        return found if isinstance(found, ParallelSpec) else None

    @property
    def _is_megatron(self) -> bool:
        return self._parallel is not None and self._parallel.is_megatron

    @property
    def _replica(self) -> int:
        """Devices that work on the same rows."""
        return 1 if self._parallel is None else self._parallel.replica

    @property
    def _num_generating(self) -> int:
        """Devices that only generate, over all machines."""
        if not self.is_verl or not isinstance(self.task, GroupSpec | PpoSpec) or self.task.rollout.mode not in _APART:
            return 0
        each = self.num_devices // self.nodes
        generating = self.task.rollout.gpus or each // 2
        if not 0 < generating < each:
            raise InvalidSpec(
                f"task.rollout.gpus: of a machine's {each} devices {generating} generate, and the others train"
            )
        return generating * self.nodes

    @property
    def _offloads_between(self) -> bool:
        """Whether all that trains waits in host memory while completions are generated."""
        parallel = self._parallel
        is_away = parallel is not None and parallel.offload_parameters and parallel.offload_optimizer
        return self.algorithm in GENERATES and is_away

    def _split(self) -> Split:
        parallel = self._parallel
        if parallel is None:
            return Split(data=self.num)
        if self.num % parallel.replica:
            raise InvalidSpec(f"task.parallel takes {parallel.replica} devices for a copy, and there are {self.num}")
        if parallel.is_megatron:
            return Split(
                data=self.num // parallel.replica,
                tensor=parallel.tensor,
                pipeline=parallel.pipeline,
                context=parallel.context,
                expert=parallel.expert,
                sequence=parallel.tensor > 1,
                zero=1,
            )
        shards = parallel.fsdp_size or self.num
        return Split(data=max(1, shards // parallel.sequence), context=parallel.sequence, zero=3)

    def _rollout(self, policy: Step) -> Rollout:
        """How completions are generated: all of a batch at once, by the trainer's weights or by an engine."""
        assert isinstance(self.task, GroupSpec | PpoSpec)
        total = self._prompt_and_completion()[1]
        generated = self.task.num_completions if isinstance(self.task, PpoSpec) else _batch_size(self.task)
        sequences = max(1, generated // (self._num_generating or self.num))
        if not self.is_verl:
            return Rollout(min(256, sequences), total, cache=policy.compute)
        rollout = self.task.rollout
        return Rollout(
            sequences,
            total,
            has_own_weights=True,
            tensor=rollout.tensor_parallel,
            share=rollout.gpu_memory_utilization,
            num_devices=self._num_generating,
        )

    def _beside(self, policy: Step) -> dict[str, float]:
        """What lies in each phase beside the planner's models."""
        found: dict[str, float] = {}
        trained = float(self.shape.parameters)
        if policy.adapter is not None:
            trained = policy.adapter.size(self.shape)
        if self.task.optim.ema_decay:
            found["average"] = 4.0 * trained
        if self.num > 1 and not self.is_verl:
            found["communication"] = min(BUCKET_BYTES, 2 * trained * policy.trained)
        return found

    def _away(self, phases: Sequence[Phase]) -> dict[str, float]:
        """Bytes of each model that wait in host memory while it does nothing, where not all that trains does."""
        parallel = self._parallel
        if parallel is None or self._offloads_between:
            return {}
        resting = next((phase.parts for phase in phases if phase.name == "score"), {})
        wanted = {"weights": parallel.offload_parameters, "optimizer": parallel.offload_optimizer}
        return {name: resting.get(name, 0.0) for name, is_away in wanted.items() if is_away}

    def _completed(self, phase: Phase, policy: Step, beside: Mapping[str, float]) -> Phase:
        found = Phase(phase.name, {**phase.parts, **beside})
        return cpu.completed(found, policy) if self.on_cpu else found


def _without(phase: Phase, away: Mapping[str, float]) -> Phase:
    """A phase whose idle models have left something: of the policy its own part, of a critic its share."""
    parts = dict(phase.parts)
    is_idle = phase.name in ("generate", "score", "reference")
    for name, size in away.items():
        is_met = name == "weights" and (
            phase.name == "score" or (phase.name == "reference" and "reference" not in parts)
        )
        if is_idle and name in parts and not is_met:
            parts[name] = 0.0
        for other in ("policy", "critic"):
            if other in parts:
                parts[other] = max(0.0, parts[other] - size)
    return Phase(phase.name, parts)


def _batch_size(task: TrainTask) -> int:
    """Rows, or completions, of an optimizer step."""
    if isinstance(task, PpoSpec):
        return task.mini_batch_size or task.num_completions
    if isinstance(task, GroupSpec):
        return task.prompts_per_step * task.rollout.completions_per_prompt
    return task.batch_size


def _changes(spec: TrainJob, num_devices: int) -> Iterator[dict[str, Any]]:
    """Settings that need less memory, alone and then together, those that cost least first."""
    task = spec.task
    model, share = task.model, max(1, _batch_size(task) // num_devices)
    is_packed = isinstance(task, SftSpec) and task.packing
    present = memory.micro_batch_size(task.model_dump(mode="json"), num_devices)
    smaller = [size for size in range(present // 2, 0, -1) if share % size == 0] if not is_packed else []
    passes: list[dict[str, Any]] = [{}, *({"task.micro_batch_size": size} for size in smaller)]
    if is_packed:
        passes += [{"task.data.max_tokens": task.data.max_tokens // factor} for factor in (2, 4)]
    again: dict[str, Any] = {} if model.gradient_checkpointing else {"task.model.gradient_checkpointing": True}
    lora: dict[str, Any] = {} if model.lora is not None else {"task.model.lora": {}}
    small: dict[str, Any] = {} if model.quantize != "none" else {"task.model.quantize": "nf4"}
    for base in ({}, again, lora, {**lora, **again}, {**lora, **small}, {**lora, **small, **again}):
        for one in passes:
            if base or one:
                yield {**one, **base}


def _changed(spec: TrainJob, changes: Mapping[str, Any]) -> TrainJob | None:
    """The job with these settings; None where it cannot have them."""
    raw = spec.model_dump(mode="json")
    for path, value in changes.items():
        *outer, last = path.split(".")
        place = raw
        for part in outer:
            place = place[part]
        place[last] = value
    try:
        made: TrainJob = parse(TrainJob, raw)
    except FineryError:
        return None
    return made


def _said(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
