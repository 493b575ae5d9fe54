"""Which layer a parameter belongs to and what it is for, read from its name. Pure.

Names are those of transformers' models, of PEFT's adapters in them, and of the actor and critic of PPO. A head that
shares its weights with the embedding is one parameter with it, and counts as embedding.
"""

import re
from typing import Final

_LAYER: Final = re.compile(r"(?:^|\.)(?:layers?|h|blocks?)\.(\d+)\.")
_CRITIC: Final = re.compile(r"(?:^|\.)critic\.")
_PARTS: Final = {
    "norm": r"norm\w*|\w+_norm|\w*layernorm|ln|ln_\w+",
    "head": r"lm_head|score|classifier|v_head|head|embed_out",
    "embedding": r"\w*embed\w*|wte|wpe",
    "attention": r"self_attn|attn|attention|self_attention|cross_attn|linear_attn",
    "ffn": r"mlp|ffn|feed_forward|experts|block_sparse_moe|fc[12]|gate_proj|up_proj|down_proj",
}
"""Group -> the parts between dots that give it away; the first that is found counts."""
_PATTERNS: Final = {group: re.compile(rf"(?:^|\.)(?:{parts})(?:\.|$)") for group, parts in _PARTS.items()}


def group_of(name: str) -> str:
    """One of `core.gradients.GROUPS`."""
    return next((group for group, pattern in _PATTERNS.items() if pattern.search(name)), "other")


def layer_of(name: str) -> str:
    """The number of a layer, or the group of what stands outside of them; a critic's have `critic.` before them."""
    found = _LAYER.search(name)
    prefix = "critic." if _CRITIC.search(name) else ""
    return prefix + (found[1] if found else group_of(name))
