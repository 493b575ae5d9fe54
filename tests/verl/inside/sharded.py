"""Trains a tiny model for two steps with FSDP2 over gloo, and has verl's own checkpoint manager save it.

Run by torchrun, one process per rank: `sharded.py TARGET DTYPE full|lora [SHARDS_PER_COPY]`. Every rank sees the same
batch, so that the result is that of one process.
"""

import sys

import torch
import torch.distributed as dist
from omegaconf import OmegaConf
from peft import LoraConfig, get_peft_model
from tokenizers import Tokenizer, models, pre_tokenizers
from torch.distributed.device_mesh import init_device_mesh
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM
from verl.utils.checkpoint.fsdp_checkpoint_manager import FSDPCheckpointManager
from verl.utils.fsdp_utils import apply_fsdp2, get_shard_placement_fn

TEMPLATE = "{% for message in messages %}{{ message['content'] }}{% endfor %}"


def tokenizer() -> PreTrainedTokenizerFast:
    words = {word: number for number, word in enumerate(["<pad>", "<eos>", "<unk>", *"0123456789+= "])}
    made = Tokenizer(models.WordLevel(vocab=words, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Split("", behavior="isolated")
    found = PreTrainedTokenizerFast(tokenizer_object=made, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>")
    found.chat_template = TEMPLATE
    return found


def model(dtype: torch.dtype, *, is_tied: bool) -> Qwen3ForCausalLM:
    torch.manual_seed(0)
    config = Qwen3Config(
        architectures=["Qwen3ForCausalLM"],  # as a model that was saved once says of itself
        vocab_size=17,  # no multiple of the ranks
        hidden_size=32,
        intermediate_size=66,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=16,
        max_position_embeddings=64,
        tie_word_embeddings=is_tied,
        pad_token_id=0,
        eos_token_id=1,
        bos_token_id=None,
    )
    made = Qwen3ForCausalLM(config).to(dtype)
    made.generation_config.eos_token_id = 1
    return made


def main(target: str, dtype: str, kind: str, per_copy: int) -> None:
    dist.init_process_group("gloo")
    size = dist.get_world_size()
    made = model(getattr(torch, dtype), is_tied=kind == "full")
    if kind == "lora":
        made.enable_input_require_grads()
        made = get_peft_model(made, LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", task_type="CAUSAL_LM"))
    if per_copy < size:
        mesh = init_device_mesh("cpu", (size // per_copy, per_copy), mesh_dim_names=("ddp", "fsdp"))
    else:
        mesh = init_device_mesh("cpu", (size,), mesh_dim_names=("fsdp",))
    apply_fsdp2(made, {"mesh": mesh, "shard_placement_fn": get_shard_placement_fn(fsdp_size=per_copy)}, {})
    optimizer = torch.optim.AdamW([p for p in made.parameters() if p.requires_grad], lr=1e-2)
    schedule = torch.optim.lr_scheduler.ConstantLR(optimizer)
    batch = torch.randint(3, 16, (4, 12), generator=torch.Generator().manual_seed(1))
    for _ in range(2):
        made(input_ids=batch, labels=batch).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    manager = FSDPCheckpointManager(
        made,
        optimizer,
        schedule,
        tokenizer(),
        checkpoint_config=OmegaConf.create({"save_contents": ["model", "optimizer", "extra"], "load_contents": []}),
    )
    manager.save_checkpoint(local_path=target, global_step=2)
    dist.destroy_process_group()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]))
