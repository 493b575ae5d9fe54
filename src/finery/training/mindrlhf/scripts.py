"""The shell scripts and the README of an exported folder. Variables name the places that differ between machines."""

import shlex
from pathlib import Path
from typing import Final

from finery.core.refs import is_local_path
from finery.training.job import Job
from finery.training.mindrlhf.configuration import DATA, RECORDS, VERIFIERS
from finery.training.mindrlhf.layout import STAGES, Layout, max_tokens
from finery.training.specs.grpo import GrpoSpec

_SHELL: Final = '#!/usr/bin/env bash\nset -euo pipefail\ncd "$(dirname "$0")"\n'


def conversion(task: GrpoSpec, tokenizer: str) -> list[str]:
    """Arguments of Python that make MindRecord of the rows, in the exported folder."""
    lengths = {"--max-prompt-tokens": task.data.max_prompt_tokens, "--max-tokens": max_tokens(task)}
    options = [str(part) for pair in lengths.items() for part in pair]
    return ["-m", "finery.datasets.mindrecord", "grpo", DATA, tokenizer, RECORDS, *options]


def _model_variable(task: GrpoSpec) -> str:
    """Says where the model lies, unless the environment does."""
    base = task.model.base
    known = f'[ -n "${{MODEL:-}}" ] || MODEL={shlex.quote(str(Path(base).expanduser().resolve()))}\n'
    return (
        f"{known if is_local_path(base) else ''}"
        ': "${MODEL:?set MODEL to the folder with the model of README.md, safetensors and tokenizer}"\n'
    )


def convert_model(task: GrpoSpec, layout: Layout) -> str:
    """Weights from safetensors to MindSpore's format, with the scripts of MindFormers."""
    return f"""{_SHELL}# Not needed with load_ckpt_format: hf_safetensors, as run_qwen_grpo.yaml has it.
# For load_ckpt_format: ckpt, convert the weights to one MindSpore checkpoint and split it for the training layout.
{_model_variable(task)}: "${{MINDFORMERS:?set MINDFORMERS to a checkout of mindformers}}"
HERE="$PWD"
cd "$MINDFORMERS/research/qwen2_5"
python convert_weight.py --torch_ckpt_dir "$MODEL" --mindspore_ckpt_path "$HERE/model/qwen2_5.ckpt" \\
  --dtype bf16 --config_path "$HERE/finetune_qwen2_5.yaml"
# The strategy of {layout.cards * layout.nodes} cards is written by a first start of run_grpo.sh into strategy/.
cd "$MINDFORMERS"
python transform_checkpoint.py --src_checkpoint="$HERE/model/qwen2_5.ckpt" \\
  --dst_checkpoint="$HERE/model/distributed/" --dst_strategy="$HERE/strategy/train_policy_strategy/"
"""


def convert_data(task: GrpoSpec) -> str:
    """Rows to MindRecord, with our own writer."""
    command = " ".join(shlex.quote(part) for part in conversion(task, "MODEL")).replace(" MODEL ", ' "$MODEL" ')
    return f"""{_SHELL}# {DATA} becomes {RECORDS}: prompt_ids, pretrain_ids (the answer), loss_mask.
# Needs: pip install mindspore transformers jinja2 pydantic orjson; pip install --no-deps finery
{_model_variable(task)}"${{PYTHON:-python}}" {command}
"""


def run(task: GrpoSpec, layout: Layout) -> str:
    """Training, with msrun."""
    total = layout.cards * layout.nodes
    functions = ",".join(VERIFIERS[reward.name] for reward in task.rewards)
    weights = ",".join(repr(float(reward.weight)) for reward in task.rewards)
    return f"""{_SHELL}# {total} cards. On several machines start it on each, with NODE_RANK and MASTER_ADDR set.
{_model_variable(task)}: "${{MINDRLHF:?set MINDRLHF to a checkout of mindrlhf}}"
: "${{MINDFORMERS:?set MINDFORMERS to a checkout of mindformers}}"
export PYTHONPATH="$MINDRLHF:$MINDFORMERS:${{PYTHONPATH:-}}" MINDFORMERS_PATH="$MINDFORMERS"
export vLLM_MODEL_BACKEND=MindFormers HCCL_EXEC_TIMEOUT=7200 MS_JIT_MODULES=vllm_mindspore,research MS_ENABLE_LCCL=off
export MS_ALLOC_CONF="memory_tracker:False,enable_vmm:True"
cp -f "$MODEL/config.json" ./config.json
msrun --worker_num={total} --local_worker_num={layout.cards} --node_rank="${{NODE_RANK:-0}}" \\
  --master_addr="${{MASTER_ADDR:-127.0.0.1}}" --master_port="${{MASTER_PORT:-9887}}" --join=True --log_dir=./logs \\
  "$MINDRLHF/examples/grpo/qwen_grpo_tutorial/main.py" \\
  --config ./run_qwen_grpo.yaml \\
  --dataset_file ./{RECORDS} \\
  --tokenizer_dir "$MODEL" \\
  --actor_checkpoint_path "$MODEL" --ref_checkpoint_path "$MODEL" --generate_checkpoint_path "$MODEL" \\
  --verifier_function "{functions}" --verifier_weight "{weights}" \\
  --save_checkpoint_dir ./checkpoints
"""


def readme(job: Job, task: GrpoSpec, layout: Layout, epochs: int, num_rows: int | None) -> str:
    """What a person needs to know who runs the folder."""
    prompts = task.prompts_per_step
    steps = epochs * (num_rows // prompts) if num_rows else None
    said = (
        f"{num_rows} rows, {prompts} prompts a step: {epochs} epoch(s) make {steps} steps; the job file says "
        f"{task.optim.steps}. MindRLHF counts epochs, so stop it there if that matters."
        if num_rows
        else f"The data are not here: put the rows of {task.data.train} into {DATA}, one JSON object with prompt and "
        f"answer a line, and set epochs in run_qwen_grpo.yaml for {task.optim.steps} steps of {prompts} prompts."
    )
    copies = f"{layout.generation_parallel} generating copies"
    parts = f"chunk_size {layout.chunk_size} * num_rollouts {layout.num_rollouts} * {copies}"
    batch = f"rl_config.batch_size {layout.batch_size}, micro_batch_num {layout.micro_batches}"
    return f"""# {job.name}: GRPO with MindRLHF on {layout.cards * layout.nodes} Ascend cards

1. Install MindRLHF, MindFormers, vLLM and vllm-mindspore as MindRLHF's docs/install.md says; export MINDRLHF and
   MINDFORMERS (checkouts) and MODEL (the folder with {task.model.base}).
2. `./convert_data.sh`, unless {RECORDS} is there.
3. `./run_grpo.sh`. Logs are in logs/, checkpoints in checkpoints/, curves in tensorboard/.

`./convert_model.sh` is for `load_ckpt_format: ckpt` alone; with `hf_safetensors` the weights are loaded as they are.

{said}

| file | what |
|---|---|
| run_qwen_grpo.yaml | the configuration: rl_config, actor, reference, rewards, generation |
| finetune_qwen2_5.yaml, predict_qwen2_5.yaml | the network, for training and for generation |
| {DATA}, {RECORDS} | rows of {task.data.train}, and the same as tokens |

| job file | here |
|---|---|
| task.kl_coef | rl_config.beta |
| task.rollout.completions_per_prompt | rl_config.num_generations |
| task.prompts_per_step ({prompts}) | {parts} |
| task.micro_batch_size | {batch}: one optimizer step per batch of rollouts |
| task.optim.learning_rate | actor_config.lr_schedule.lr (start_lr), falling to min_lr (end_lr) |
| task.sync_ref_model, ref_model_sync_steps | ref_config, same names |
| rewards | reward_config.verifier_function and verifier_weight |
| cards | data_parallel {layout.data_parallel} * model_parallel {layout.model_parallel} * pipeline_stage {STAGES} |

What differs from a run with Finery: the accuracy reward finds the answer in \\boxed{{...}} alone and compares numbers
as text; advantages are divided by the standard deviation plus 1e-6; the schedule counts the steps of the warm-up;
weights are in float32 and computed with in bfloat16; biases and layer norms have no weight decay.
"""
