"""Advice: everyday questions with answers of better and worse manners, for learning from preferences.

Answers are put together from parts. Each of the four manners of `core.manners` is in an answer with probability
`manner_share`, independently, so that a model of all answers has a little of each, and what is preferred can be learned
by having more of them.
"""

import random
from collections.abc import Collection, Iterator
from itertools import product
from typing import Final

from pydantic import Field

from finery.core import manners
from finery.core.errors import InvalidSpec
from finery.datasets.generators import Generated, GeneratorParams, registry
from finery.datasets.specs import DatasetFormat

_THINGS: Final = (
    "bicycle", "kitchen knife", "garden", "laptop", "sofa", "car", "rice cooker", "window", "fish tank", "lawn",
    "mattress", "coffee machine", "leather bag", "wooden table", "camera", "tent", "piano", "printer", "raincoat",
    "washing machine", "carpet", "oven", "pair of boots", "rose bush", "guitar", "phone", "fridge", "kettle", "clock",
    "bookshelf", "bathtub", "backpack", "chimney", "greenhouse", "hedge", "lamp", "mirror", "pillow", "scooter", "vase",
)  # fmt: skip
_WISHES: Final = (
    "clean my {}", "store my {} in winter", "repair my {}", "sell my old {}", "choose a new {}", "move my {} safely",
    "make my {} last longer", "stop my {} from smelling", "lend my {} to a friend", "insure my {}", "pack my {}",
    "decorate my {}", "dry my {} quickly", "protect my {} from dust", "find the right place for my {}",
    "get rid of my {}", "photograph my {}", "wrap my {} as a gift", "keep my {} cool", "keep children away from my {}",
)  # fmt: skip
_THANKS: Final = ("Good question.", "Thanks for asking.", "Happy to help.")
_ACTS: Final = (
    "use a soft cloth", "take your time", "ask a neighbour", "read the manual", "work in daylight", "start small",
    "wear gloves", "make a list", "open a window", "use warm water",
)  # fmt: skip
_REASONS: Final = ("haste breaks things", "it saves money", "it is safer", "that always works", "small steps add up")
_OFFERS: Final = ("Let me know how it goes.", "Feel free to ask more.", "Ask me again if it fails.")


class AdviceParams(GeneratorParams):
    """How many questions, and how well-mannered the answers are."""

    num_rows: int = Field(500, ge=1, le=len(_THINGS) * len(_WISHES))
    """How many questions, all different; there are 800."""
    format: DatasetFormat = "preference"
    """`preference` writes a question with an answer and one of worse manners, `unpaired` one answer of the two in turn,
    labelled, `sft` any answer; `verifiable` writes questions without an answer, for rollouts."""
    manner_share: float = Field(0.2, gt=0, lt=1)
    """Probability of each manner in an answer."""


@registry.register("advice", params=AdviceParams)
def advice(params: AdviceParams, taken: Collection[str]) -> Iterator[Generated]:
    """Everyday questions; of two answers the one with better manners is preferred."""
    stream = random.Random(params.seed)
    prompts = [f"How do I {wish.format(thing)}?" for wish, thing in product(_WISHES, _THINGS)]
    stream.shuffle(prompts)
    free = [prompt for prompt in prompts if prompt not in taken]
    if len(free) < params.num_rows:
        raise InvalidSpec(f"only {len(free)} different questions are left, and num_rows is {params.num_rows}")
    for prompt in free[: params.num_rows]:
        if params.format in ("preference", "unpaired"):
            better, worse = _unequal(stream, params.manner_share)
            yield Generated(prompt, "", better, worse)
        else:
            yield Generated(prompt, "", _answer(stream, params.manner_share))


def _unequal(stream: random.Random, share: float) -> tuple[str, str]:
    """Two answers, the better first."""
    while True:
        pair = sorted((_answer(stream, share) for _ in range(2)), key=manners.score, reverse=True)
        if manners.score(pair[0]) > manners.score(pair[1]):
            return pair[0], pair[1]


def _answer(stream: random.Random, share: float) -> str:
    has = {name: stream.random() < share for name in manners.MANNERS}
    one, two = stream.sample(_ACTS, 2)
    advised = f"First {one}, then {two}" if has["order"] else f"You could {one}"
    reason = f", because {stream.choice(_REASONS)}" if has["reason"] else ""
    thanks = [stream.choice(_THANKS)] if has["thanks"] else []
    offer = [stream.choice(_OFFERS)] if has["offer"] else []
    return " ".join([*thanks, f"{advised}{reason}.", *offer])
