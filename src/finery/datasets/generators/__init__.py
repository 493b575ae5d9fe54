"""Generators: rows made by a program instead of read from a file. An open set, one file each.

A generator is a function of its parameters and of the prompts that are taken already; the same of both give the same
rows on every machine.
"""

from collections.abc import Callable, Collection, Iterator
from typing import Any, NamedTuple

from pydantic import Field

from finery.core.registry import Registry
from finery.core.spec import Spec
from finery.datasets.specs import DatasetFormat


class GeneratorParams(Spec):
    """What every generator can be asked."""

    num_rows: int = Field(1000, ge=1, le=1_000_000)
    """How many problems, all different."""
    seed: int = Field(0, ge=0, lt=2**63)
    """Start of the random stream; the same seed gives the same rows."""
    exclude: tuple[str, ...] = ()
    """Dataset versions whose prompts must not appear, such as the test set while the training set is made."""
    format: DatasetFormat = "verifiable"
    """`verifiable` writes prompt and answer, `sft` prompt and response, `preference` prompt with the right response
    and a wrong one, `unpaired` prompt and one response of the two in turn, labelled."""


class Generated(NamedTuple):
    """One problem."""

    prompt: str
    answer: str
    response: str
    """What SFT is to learn; the answer or a sentence with it."""
    wrong_response: str = ""
    """A response of the same wording with a wrong answer; empty where the generator makes none."""


Generator = Callable[[Any, Collection[str]], Iterator[Generated]]
"""(params, prompts that are taken) -> exactly `params.num_rows` problems with different prompts, none of them taken.

Raises `InvalidSpec` when there are not that many."""

registry: Registry[Generator] = Registry("finery.datasets.generators", "generator")
