"""What a training program does where a job does not say: its documented defaults, and what its kernels keep.

Of each the source of its defaults. What a kernel set keeps is counted from its operations; where it was fitted to
published measurements the field says so.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final, Literal

from finery.planner.memory import GIB, Kernels, Optimizer, Recomputation

Meter = Literal["allocated", "reserved", "device"]


@dataclass(frozen=True)
class Framework:
    """Defaults of a program, for a dense model on one device."""

    kernels: Kernels
    source: str
    seq_len: int = 2048
    micro_batch: int = 1
    recomputation: Recomputation = "none"
    optimizer: Optimizer = "adamw"
    master: bool = False
    """Whether 16-bit training keeps float32 weights beside."""
    gradients: float = 2.0
    keeps_gradients: bool = False
    flash: bool = True
    rank: int = 8
    targets: tuple[str, ...] | Literal["all-linear"] = ("q_proj", "v_proj")
    targets_by_family: Mapping[str, Literal["all-linear"]] = field(default_factory=dict)
    """Where its example files for a family of models name others."""
    adapter_bytes: float = 4.0
    zero: Literal[0, 1, 2, 3] = 0
    """Where a run of several devices does not say."""
    divides_sequence: bool = False
    """Whether tensor parallelism comes with sequence parallelism."""
    reports_last_stage: bool = False
    """Whether it tells the memory of the last stage of a pipeline, not of the fullest."""
    meter: Meter = "reserved"
    unit: float = GIB
    """Bytes of what it prints as GB."""
    ties: bool = True
    """Whether a head that is the embedding is kept as such."""
    recomputes_if_sharded: bool = False
    vocabulary_multiple: int = 1
    """The vocabulary is filled up to a multiple of this, for each device of tensor parallelism."""
    reduce_bucket: float = 0.0
    """Bytes that lie ready for gradients on their way between devices."""
    is_mixed: bool = False
    """Whether weights are float32 and FSDP casts what it gathers, where a run does not say otherwise."""
    empties_cache: bool = False
    """Whether it gives back what the allocator keeps, every few steps."""
    upcasts_ends: bool = False
    """Whether the rest becomes float32 beside weights of bitsandbytes (peft's prepare_model_for_kbit_training)."""
    adapter_dropout: bool = False
    """Whether adapters drop out of their inputs."""
    rollout_share: float | None = None
    """Share of a device that its engine takes where a run has one beside the trainer; None has none by default, or one
    on devices of its own."""


HF: Final = Kernels(norm=6.0, logits=14.0, selects_outputs=True, whole_gradients="trained")
"""Eager modules of transformers: a norm computes in float32, logits are copied to float32 for the loss. Its Trainer,
with FSDP, adds gradients up after the last micro batch unless it is told otherwise (`sync_each_batch`)."""
FRAMEWORKS: Final[dict[str, Framework]] = {
    "transformers": Framework(
        HF, "huggingface/transformers src/transformers/loss/loss_utils.py, Trainer", upcasts_ends=True
    ),
    "fms": Framework(
        replace(HF, whole_gradients="none"),
        "foundation-model-stack/fms-acceleration scripts/benchmarks/{defaults,scenarios}.yaml: no accumulation",
        seq_len=4096,
        recomputation="full",
        rank=16,
        targets=("q_proj", "k_proj", "v_proj", "o_proj"),
        meter="allocated",
    ),
    "swift": Framework(
        Kernels(norm=6.0, logits=14.0, waste=32.0, whole_gradients="trained"),
        "modelscope/swift docs/source_en/LLM/Benchmark.md: not packed, lengths of 91 to 19,548; waste fitted",
        recomputation="full",
        targets=("c_attn", "q_proj", "k_proj", "v_proj", "W_pack"),
        upcasts_ends=True,
    ),
    "peft": Framework(
        HF,
        "huggingface/peft method_comparison/MetaMathQA/default_training_params.json",
        micro_batch=4,
        rank=32,
        upcasts_ends=True,
        empties_cache=True,
    ),
    "litgpt": Framework(
        Kernels(norm=6.0, logits=4.0, quantized=20.0, whole_gradients="all"),
        "Lightning-AI/litgpt litgpt/finetune/lora.py: the loss in pieces of 128 tokens, all in bfloat16",
        targets_by_family={"phi": "all-linear", "phi3": "all-linear", "gemma": "all-linear", "gemma2": "all-linear"},
        adapter_bytes=2.0,
        adapter_dropout=True,
        keeps_gradients=True,
        ties=False,
        recomputes_if_sharded=True,
        meter="allocated",
        unit=1e9,
    ),
    "torchtune": Framework(
        Kernels(norm=6.0, logits=3.0, step=0.0),
        "meta-pytorch/torchtune recipes/configs, README: loss in 8 pieces",
        micro_batch=2,
        recomputation="full",
        targets=("q_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"),
        adapter_bytes=2.0,
        meter="allocated",
    ),
    "megatron": Framework(
        Kernels(norm=2.0, rope_copies=False, activation_function=2.0, logits=6.0, workspace=114 * 2**20, step=0.0),
        "NVIDIA/Megatron-LM megatron/training/arguments.py, megatron/core/tensor_parallel/cross_entropy.py",
        master=True,
        gradients=4.0,
        keeps_gradients=True,
        reports_last_stage=True,
        meter="allocated",
        vocabulary_multiple=128,
    ),
    "deepspeed-chat": Framework(
        Kernels(norm=4.0, logits=14.0, step=0.0),
        "deepspeedai/DeepSpeedExamples applications/DeepSpeed-Chat: eager attention of transformers 4.28",
        seq_len=512,
        master=True,
        keeps_gradients=True,
        flash=False,
        meter="allocated",
    ),
    "deepspeed": Framework(
        Kernels(norm=4.0, logits=14.0, step=0.0),
        "deepspeedai/DeepSpeed deepspeed/runtime/zero: gradients lie in one buffer",
        master=True,
        keeps_gradients=True,
        meter="allocated",
    ),
}
FRAMEWORKS["megatron-bridge"] = replace(
    FRAMEWORKS["megatron"],
    source="NVIDIA-NeMo/Megatron-Bridge docs/performance-guide.md: sequence parallel, distributed optimizer",
    zero=1,
    gradients=2.0,
    divides_sequence=True,
    reports_last_stage=False,
)
_OTHERS: Final[dict[str, Framework]] = {
    "llama-factory": replace(
        FRAMEWORKS["transformers"],
        source="hiyouga/LLaMA-Factory src/llamafactory/hparams/{data,model,finetuning}_args.py, "
        "src/llamafactory/model/adapter.py (what is trained becomes float32), examples/train_lora/qwen3_lora_sft.yaml",
        recomputation="full",
        targets="all-linear",
        is_mixed=True,
        upcasts_ends=False,
    ),
    "unsloth": replace(
        FRAMEWORKS["transformers"],
        kernels=replace(HF, norm=2.0, rope_copies=False, activation_function=0.0, logits=0.0),
        source="unslothai/unsloth unsloth/models/{llama,loader,rl}.py, unsloth/kernels/{rms_layernorm,rope_embedding,"
        "fast_lora}.py; unslothai/unsloth-zoo unsloth_zoo/training_utils.py, "
        "unsloth_zoo/fused_losses/cross_entropy_loss.py: the loss with the head, in pieces of 4 GiB at most",
        micro_batch=4,
        recomputation="full",
        optimizer="adamw_8bit",
        rank=16,
        targets="all-linear",
        upcasts_ends=False,
        rollout_share=0.5,
    ),
    "torchtitan": Framework(
        Kernels(norm=2.0, logits=1.75, selects_outputs=True, step=0.0),
        "pytorch/torchtitan torchtitan/models/llama3/config_registry.py (llama3_8b), torchtitan/config/configs.py, "
        "torchtitan/components/{loss,lora,metrics}.py, torchtitan/components/optimizer/optimizer.py: float32 weights, "
        "FSDP 2, loss in 8 pieces, fused AdamW, peak reserved",
        seq_len=8192,
        recomputation="selective",
        targets="all-linear",
        zero=3,
        is_mixed=True,
    ),
    "llm-foundry": Framework(
        Kernels(norm=2.0, rope_copies=False, logits=4.0, step=0.0),
        "mosaicml/llm-foundry scripts/train/yamls/pretrain/mpt-7b.yaml, llmfoundry/models/mpt/modeling_mpt.py, "
        "llmfoundry/models/layers/norm.py; mosaicml/composer composer/distributed/mosaic_parallelism.py (PURE), "
        "composer/callbacks/memory_monitor.py (GB of 1e9)",
        micro_batch=8,
        recomputation="full",
        zero=3,
        is_mixed=True,
        unit=1e9,
    ),
    "internevo": Framework(
        Kernels(norm=4.0, logits=8.0, step=0.0),
        "InternLM/InternEvo configs/7B_sft.py, internlm/model/{modeling_internlm,metrics}.py, "
        "internlm/model/losses/ce_loss.py, internlm/train/pipeline.py, "
        "internlm/solver/optimizer/hybrid_zero_optim.py: buckets of 512 x 2^20 elements",
        micro_batch=2,
        master=True,
        keeps_gradients=True,
        zero=1,
        reduce_bucket=2 * 512 * 2**20,
        unit=1e9,
    ),
    "verl": replace(
        FRAMEWORKS["transformers"],
        kernels=replace(HF, logits=4.0, whole_gradients="none"),
        source="verl-project/verl verl/trainer/config/{data/legacy_data,model/hf_model,engine/fsdp,rollout/rollout,"
        "sft_trainer_engine}.yaml, verl/workers/engine/fsdp/transformer_impl.py, "
        "verl/utils/torch_functional.py: FSDP with float32 weights, flash-attn's loss in place",
        seq_len=1024,
        recomputation="full",
        zero=3,
        is_mixed=True,
        targets="all-linear",
        upcasts_ends=False,
        rollout_share=0.5,
    ),
    "openrlhf": replace(
        FRAMEWORKS["deepspeed"],
        kernels=replace(FRAMEWORKS["deepspeed"].kernels, norm=6.0, logits=10.0),
        source="OpenRLHF/OpenRLHF openrlhf/cli/train_{ppo_ray,sft}.py, openrlhf/models/{actor,utils}.py, "
        "openrlhf/utils/deepspeed/deepspeed_utils.py: ZeRO 2, no recomputation, engines on devices of their own",
        targets="all-linear",
        zero=2,
    ),
    "trl": replace(
        FRAMEWORKS["transformers"],
        kernels=replace(HF, logits=0.0),
        source="huggingface/trl trl/trainer/{base,sft,grpo,model}_config.py, trl/trainer/sft_trainer.py: loss of SFT "
        "in pieces of 256 tokens; huggingface/transformers src/transformers/training_args.py",
        seq_len=1024,
        micro_batch=8,
        recomputation="full",
        rank=16,
        is_mixed=True,
        adapter_dropout=True,
        rollout_share=0.3,
    ),
}
FRAMEWORKS.update(_OTHERS)
_USUAL_WASTE: Final = 14.0
"""Of a program that is not known, which may pack or not: blocks of logits once more. Published ratios of what is
reserved to what is allocated lie between 1.0 and 2.1."""


def generic(*, divides_layers: bool, has_zero: bool) -> Framework:
    """What a program that is not known is taken for.

    Args:
        divides_layers: Whether a run divides matrices or layers between devices: it computes as Megatron.
        has_zero: Whether a run names a stage of ZeRO that is not FSDP's: it keeps float32 weights as DeepSpeed.
    """
    name = "megatron-bridge" if divides_layers else "deepspeed" if has_zero else "transformers"
    found = FRAMEWORKS[name]
    if name == "transformers":
        return replace(found, kernels=replace(found.kernels, waste=_USUAL_WASTE))
    return replace(found, meter="reserved")


def left_out(own: Framework, other: Framework) -> Framework:
    """A program as if none of its measurements were known: documented defaults, with the kernels of another.

    Args:
        own: Whose defaults and meter stay.
        other: What it is taken for.
    """
    kernels = replace(other.kernels, waste=0.0) if own.empties_cache else other.kernels
    return replace(own, kernels=kernels)
