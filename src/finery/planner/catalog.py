"""Shapes of well-known language models, found by the names that people write for them.

Owns: the table `data/models.json` and how a name finds its row. Does not own: what a row means for memory (shapes).

A row is a mapping like a Hugging Face `config.json`, with the field names of Llama in every family (gpt2's `n_embd` is
`hidden_size`, opt's `ffn_dim` is `intermediate_size`); `head_dim` is absent where it is hidden_size /
num_attention_heads. Beside these fields a row has:

    id                           name on the hub, or one of a public training recipe
    parameters                   exact published count; absent where none is known
    aliases                      other names of the same shape, quantized and fine-tuned ones too
    source                       where the fields come from
    note                         what the fields do not say
    uncertain                    true where a part of the row is assumed, or its source cannot be pointed to by path
    learned_position_embeddings  rows of the table of positions
    qk_norm                      true: a norm of head_dim on q and k; full: over the projection; per_head: for each head
    mlp_gated                    false: two matrices in a family that has three

The vocabulary is that of the checkpoint; training with tensor parallelism may pad it.
"""

import re
from collections.abc import Callable, Sequence
from copy import deepcopy
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any, Final

import orjson

from finery.core.errors import NotFound

_FILE: Final = Path(__file__).parent / "data" / "models.json"
_TUNED: Final = ("instruct", "chat", "it", "pt", "base", "hf")
_STORED: Final = (
    "gptq",
    "awq",
    "gguf",
    "bnb",
    "unsloth",
    "dynamic",
    "int4",
    "int8",
    "4bit",
    "8bit",
    "fp8",
    "bf16",
    "fp16",
)
_VARIANTS: Final = frozenset(_TUNED + _STORED)
"""Words of a name that say how a model was tuned or stored, not how it is built."""
_VERSION: Final = re.compile(r"v\d+\.\d+")
_SIZE: Final = re.compile(r"(\d+x)?\d+(\.\d+)?[mbt]")
_PARAMETERS: Final = re.compile(r"[ae]?(\d+x)?\d+(\.\d+)?[mbt]")
"""A size, or the part of a mixture that a token meets: a22b."""
_LETTERS: Final = re.compile(r"[a-z]+")
_USUAL: Final = re.compile(
    "v|large|small|medium|mini|tiny|nano|micro|super|ultra|x*l|xs|pro|moe|dense|preview|code|math|model|"
    + "|".join(sorted(_VARIANTS))
)
"""Words that models of any family have in their names."""
_GAPS: Final = re.compile(r"[\s_\-]+")


def shape_fields(name: str) -> dict[str, Any]:
    """The row of a known model.

    Args:
        name: Id on the hub, alias or a loose spelling of one: case, spaces, hyphens, underscores, the organisation and
            words such as -Instruct or -AWQ do not matter; nor does a version such as v0.1 where only one model is left.

    Returns:
        A copy, which the caller may change.

    Raises:
        NotFound: no model has that name, or several have it; says which are near.
    """
    for spelling in _SPELLINGS:
        key = spelling(name)
        found = _index(spelling).get(key, ()) if key else ()
        if len(found) == 1:
            return deepcopy(_rows()[found[0]])
        if found:
            raise NotFound(f"{name!r} may be {_listed(found)}; write one of these")
    near = _near(name)
    hint = f"did you mean {_listed(near)}? Else give" if near else "give"
    raise NotFound(
        f"{name!r} is no model of the catalog; {hint} --config FILE (its config.json) or --params 7.6 (billions)"
    )


def names() -> list[str]:
    """Ids of all models, in the order of the table."""
    return list(_rows())


@cache
def _rows() -> dict[str, dict[str, Any]]:
    return {row["id"]: row for row in orjson.loads(_FILE.read_bytes())}


@cache
def _index(spelling: Callable[[str], str]) -> dict[str, tuple[str, ...]]:
    """Spelling of each id and alias -> ids of the models that are spelled so."""
    found: dict[str, dict[str, None]] = {}
    for model, row in _rows().items():
        for written in (model, *row["aliases"]):
            found.setdefault(spelling(written), {})[model] = None
    return {key: tuple(models) for key, models in found.items()}


def _exact(name: str) -> str:
    return name.strip().casefold()


def _closed(name: str) -> str:
    return _GAPS.sub("", _exact(name))


def _bare(name: str) -> str:
    return _closed(name.strip("/").rpartition("/")[2])


def _plain(name: str) -> str:
    return "".join(_words(name))


def _unversioned(name: str) -> str:
    return "".join(word for word in _words(name) if not _VERSION.fullmatch(word))


def _words(name: str) -> tuple[str, ...]:
    """Words that say how a model is built: all but the variants after the first."""
    first, *rest = _GAPS.split(_exact(name).strip("/").rpartition("/")[2])
    # The base of t5-base is its size.
    is_sized = any(_SIZE.fullmatch(word) for word in (first, *rest) if word not in _VARIANTS)
    return (first, *(word for word in rest if word not in _VARIANTS or (word == "base" and not is_sized)))


_SPELLINGS: Final = (_exact, _closed, _bare, _plain, _unversioned)
"""From the strictest to the loosest; the first that a model answers to decides."""


def _dashed(name: str) -> str:
    return "-".join(_words(name))


def _near(name: str) -> list[str]:
    """Up to three models whose names look like it and share a part that is neither a size nor a number."""
    index, own = _index(_dashed), _parts(_dashed(name))
    keys = [key for key in index if any(_is_shared(part, other) for part in own for other in _parts(key))]
    found: dict[str, None] = {}
    for key in get_close_matches(_dashed(name), keys, n=12):
        found |= dict.fromkeys(index[key])
    return list(found)[:3]


@cache
def _parts(dashed: str) -> frozenset[str]:
    """What words of a name begin with: qwen of qwen2.5-7b-moe."""
    words = (word for word in dashed.split("-") if not _PARAMETERS.fullmatch(word))
    found = (_LETTERS.match(word) for word in words)
    return frozenset(one[0] for one in found if one and not _USUAL.fullmatch(one[0]))


def _is_shared(part: str, other: str) -> bool:
    """Whether one is the other or, of three letters at least, in it: olmo and olmoe."""
    return part == other or (min(len(part), len(other)) >= 3 and (part in other or other in part))


def _listed(models: Sequence[str]) -> str:
    *others, last = models
    return f"{', '.join(others)} or {last}" if others else last
