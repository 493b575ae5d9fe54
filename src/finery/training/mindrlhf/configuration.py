"""The YAML files that MindRLHF and MindFormers read.

Keys are those of `mindrlhf/configs/grpo_configs.py` and `model_configs/qwen_grpo` of MindRLHF: a key that its classes
do not have is a TypeError there.
"""

from collections.abc import Mapping
from typing import Any, Final

import yaml

from finery.training.job import Job
from finery.training.mindrlhf.layout import STAGES, Layout, Shape, max_tokens
from finery.training.specs.grpo import GrpoSpec

_SMALLEST_RATE: Final = 1e-10
VERIFIERS: Final = {"math_equal": "qwen_accuracy_reward", "format": "format_reward"}
"""Our reward -> function of `mindrlhf/reward/reward_fn.py`."""
DATA: Final = "data/train.jsonl"
"""Rows as the dataset version has them."""
RECORDS: Final = "data/train.mindrecord"
"""The same as tokens."""


def grpo(job: Job, task: GrpoSpec, shape: Shape, layout: Layout, epochs: int) -> dict[str, Any]:
    """What `main.py --config` reads."""
    training = {
        "data_parallel": layout.data_parallel,
        "model_parallel": layout.model_parallel,
        "pipeline_stage": STAGES,
        "use_seq_parallel": layout.model_parallel > 1,
        "micro_batch_num": layout.micro_batches,
        "vocab_emb_dp": False,
        "context_parallel": 1,
    }
    whole = {
        "data_parallel": layout.generation_parallel,
        "model_parallel": layout.model_parallel,
        "pipeline_stage": 1,
        "context_parallel": 1,
    }
    return {
        "rl_config": _reinforcement(job, task, layout, epochs),
        "actor_config": {
            "load": "",
            "save": "./checkpoints/",
            "model_config": "./finetune_qwen2_5.yaml",
            "offset": 0,
            "use_eod_attn_mask_compression": True,
            "loss_scale_value": 1,
            "parallel_config": training,
            "recompute_config": {"recompute": True, "select_recompute": False},
            "enable_parallel_optimizer": True,
            "optimizer": {
                "type": "adamw",
                "adam_beta1": task.optim.beta1,
                "adam_beta2": task.optim.beta2,
                "eps": task.optim.epsilon,
                "weight_decay": task.optim.weight_decay,
                "opt_offload": False,
            },
            "lr_schedule": _schedule(task),
        },
        "ref_config": {
            "model_config": "./finetune_qwen2_5.yaml",
            "load": "",
            "ref_model_batch_size": layout.chunk_size,
            "offset": 0,
            "use_eod_attn_mask_compression": True,
            "sync_ref_model": task.sync_ref_model,
            "ref_model_sync_steps": task.ref_model_sync_steps,
            "parallel_config": whole,
        },
        "reward_config": {
            "verifier_function": [VERIFIERS[reward.name] for reward in task.rewards],
            "verifier_weight": [reward.weight for reward in task.rewards],
        },
        "generate_config": _generation(task, shape, layout, whole),
        "context": {
            "mode": 0,
            "device_target": "Ascend",
            "max_call_depth": 10000,
            "max_device_memory": "58GB",
            "jit_config": {"jit_level": "O0"},
            "memory_optimize_level": "O0",
            "ascend_config": {"precision_mode": "must_keep_origin_dtype"},
        },
    }


def _reinforcement(job: Job, task: GrpoSpec, layout: Layout, epochs: int) -> dict[str, Any]:
    return {
        "model_name": "qwen2.5",
        "align_type": "rlhf_stages",
        "dataset_file": f"./{RECORDS}",
        "tokenizer_type": "qwen",
        "tokenizer_dir": "",
        "epochs": epochs,
        "batch_size": layout.batch_size,
        "sink_size": 1,
        "seq_length": max_tokens(task),
        "use_parallel": True,
        "load_ckpt_format": "hf_safetensors",
        "parallel_mode": "semi_auto_parallel",
        "save_strategy_dir": "./strategy/",
        "save_data_file": "",
        "packing": True,
        "pack_num": 1,
        "save_prompt_completions_data": True,
        "save_prompt_completions_interval": 1,
        "save_prompt_completions_dir": "./completions/",
        "reshard_mem_opt_level": 0,
        "save_ckpt_interval": job.monitoring.checkpoint_interval,
        "save_max_ckpt_num": job.monitoring.keep_checkpoints,
        "save_ckpt_format": "safetensors",
        "tensorboard": True,
        "tensorboard_dir": "./tensorboard/",
        "beta": task.kl_coef,
        "num_generations": task.rollout.completions_per_prompt,
        "num_rollouts": layout.num_rollouts,
        "chunk_size": layout.chunk_size,
        "num_iterations": task.num_iterations,
        "epsilon_low": task.clip_low,
        "epsilon_high": task.clip_high,
        "enable_oldpolicy": True,
        "seed": job.seed or 0,
    }


def _schedule(task: GrpoSpec) -> dict[str, Any]:
    """The learning rate. The last one must lie below the first; a constant one falls by a millionth."""
    rate = task.optim.learning_rate
    is_constant = task.optim.schedule == "constant"
    return {
        "lr_decay_style": "cosine" if task.optim.schedule == "cosine" else "linear",
        "lr": rate,
        "min_lr": rate * (1 - 1e-6) if is_constant else min(_SMALLEST_RATE, rate / 1000),
        "warmup_step": task.optim.warmup_steps,
        "decay_steps": task.optim.steps,
    }


def _generation(task: GrpoSpec, shape: Shape, layout: Layout, parallel: dict[str, int]) -> dict[str, Any]:
    return {
        "model_config": "./predict_qwen2_5.yaml",
        "load": "",
        "infer_model_batch_size": layout.chunk_size,
        "parallel_config": parallel,
        "use_vllm": 1,
        "hf_config_path": "./config.json",
        "block_size": 16,
        "max_model_len": max_tokens(task),
        "max_num_batched_tokens": max(max_tokens(task), 8192),
        "max_num_seqs": 256,
        "max_prompt_length": task.data.max_prompt_tokens,
        "num_scheduler_steps": 32,
        "gpu_memory_utilization": 0.5,
        "sampling_config": {
            "max_tokens": task.rollout.max_new_tokens,
            "min_tokens": 0,
            "temperature": task.rollout.temperature,
            "repetition_penalty": 1.0,
            "top_p": task.rollout.top_p,
            "top_k": task.rollout.top_k or -1,
            "min_p": 0.0,
            "bos_token_id": shape.bos,
            "eos_token_id": list(shape.eos),
            "pad_token_id": shape.pad,
            "detokenize": False,
        },
    }


def _network(shape: Shape) -> dict[str, Any]:
    """`model_config` of MindFormers, as far as training and generation agree."""
    return {
        "type": "LlamaConfig",
        "batch_size": 1,
        "hidden_size": shape.hidden_size,
        "num_layers": shape.num_layers,
        "num_heads": shape.num_heads,
        "n_kv_heads": shape.num_kv_heads,
        "vocab_size": shape.vocab_size,
        "intermediate_size": shape.intermediate_size,
        "tie_word_embeddings": shape.is_tied,
        "qkv_has_bias": True,
        "rms_norm_eps": shape.rms_norm_eps,
        "theta": shape.rope_theta,
        "max_position_embedding": shape.max_positions,
        "emb_dropout_prob": 0.0,
        "pad_token_id": shape.pad,
        "compute_dtype": "bfloat16",
        "layernorm_compute_type": "float32",
        "softmax_compute_type": "float16",
        "rotary_dtype": "float32",
        "param_init_type": "float32",
        "use_flash_attention": True,
        "qkv_concat": False,
        "block_size": 32,
        "offset": 0,
        "checkpoint_name_or_path": "",
        "repetition_penalty": 1,
    }


def trained(shape: Shape) -> dict[str, Any]:
    """The network that is trained, and the reference."""
    config = {
        **_network(shape),
        "eos_token_id": shape.eos[-1],
        "use_past": False,
        "extend_method": "None",
        "fine_grain_interleave": 1,
        "num_blocks": 128,
        "do_sample": False,
        "compute_in_2d": True,
    }
    return _model("finetune", config)


def generating(task: GrpoSpec, shape: Shape) -> dict[str, Any]:
    """The network that writes completions."""
    config = {
        **_network(shape),
        "seq_length": max_tokens(task),
        "eos_token_id": list(shape.eos),
        "bos_token_id": shape.bos,
        "use_past": True,
        "use_past_shard": False,
        "num_blocks": 1024,
        "do_sample": True,
        "is_dynamic": True,
        "max_decode_length": task.rollout.max_new_tokens,
        "temperature": task.rollout.temperature,
        "top_k": task.rollout.top_k,
        "top_p": task.rollout.top_p,
    }
    return _model("predict", config)


def _model(mode: str, config: dict[str, Any]) -> dict[str, Any]:
    tokenizer = {"vocab_file": "", "merges_file": "", "type": "Qwen2Tokenizer"}
    return {
        "run_mode": mode,
        "model": {"model_config": config, "arch": {"type": "LlamaForCausalLM"}},
        "processor": {"return_tensors": "ms", "tokenizer": tokenizer, "type": "Qwen2Processor"},
    }


HEADER: Final = (
    "# GRPO configuration of MindRLHF (mindrlhf/configs/grpo_configs.py).\n"
    "# Its tutorial calls actor_config.lr_schedule.lr start_lr, and .min_lr end_lr.\n"
)


def as_yaml(content: Mapping[str, Any]) -> str:
    """As text, keys in the order given."""
    return yaml.dump(dict(content), Dumper=_Plain, sort_keys=False, allow_unicode=True, width=120)


class _Plain(yaml.SafeDumper):
    """Writes what is used twice twice, and numbers so that YAML 1.1 reads them as numbers."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _number(dumper: yaml.SafeDumper, value: float) -> yaml.ScalarNode:
    text = repr(value)
    if "e" in text and "." not in text:
        text = text.replace("e", ".0e")
    return dumper.represent_scalar("tag:yaml.org,2002:float", text)


_Plain.add_representer(float, _number)
