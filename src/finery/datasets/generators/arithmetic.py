"""Arithmetic: sums, differences and products of two integers, each problem once.

All problems of the parameters are numbered, and the rows are a random draw from these numbers without repetition: so
uniqueness costs nothing, and it is known beforehand when fewer exist than are asked for.
"""

import random
import re
from bisect import bisect_right
from collections.abc import Callable, Collection, Iterator
from typing import Literal, NamedTuple, Self

from pydantic import Field, model_validator

from finery.core.errors import InvalidSpec
from finery.core.spec import Spec
from finery.datasets.generators import Generated, GeneratorParams, registry

Operation = Literal["add", "subtract", "multiply"]

_SYMBOLS: dict[Operation, str] = {"add": "+", "subtract": "-", "multiply": "*"}
_COMPUTE: dict[Operation, Callable[[int, int], int]] = {
    "add": lambda a, b: a + b,
    "subtract": lambda a, b: a - b,
    "multiply": lambda a, b: a * b,
}
_PLACE = re.compile(r"\{(\w*)\}")
_PROMPT_PLACES = {"left", "operator", "right"}
_LARGEST = 10**9
_OFFSETS = (-10, -2, -1, 1, 2, 10)
"""By how much a wrong answer misses the right one."""


class OperandRange(Spec):
    """Which integers an operand can be."""

    min: int = Field(ge=-_LARGEST, le=_LARGEST)
    max: int = Field(ge=-_LARGEST, le=_LARGEST)
    """Included."""

    @model_validator(mode="after")
    def _is_a_range(self) -> Self:
        if self.min > self.max:
            raise ValueError(f"min ({self.min}) must not exceed max ({self.max})")
        return self


class ArithmeticParams(GeneratorParams):
    """What kind of problems, how many, and how they are worded."""

    operations: tuple[Operation, ...] = Field(("add",), min_length=1)
    """`add`, `subtract`, `multiply`: each problem has one of them."""
    min_digits: int = Field(1, ge=1, le=9)
    """Digits of the smallest operand."""
    max_digits: int = Field(2, ge=1, le=9)
    """Digits of the largest operand."""
    left: OperandRange | None = None
    """Range of the first operand, instead of its digits."""
    right: OperandRange | None = None
    """Range of the second operand, instead of its digits."""
    allow_negative: bool = True
    """Whether differences may be negative."""
    prompt: str = Field("What is {left} {operator} {right}?", max_length=2000)
    """Wording of a problem, with {left}, {operator} and {right} in it."""
    response: str = Field("{answer}", max_length=2000)
    """Wording of what SFT learns, with {answer}, and {left}, {operator}, {right} where wanted."""

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.min_digits > self.max_digits:
            raise ValueError(f"min_digits ({self.min_digits}) must not exceed max_digits ({self.max_digits})")
        if len(set(self.operations)) != len(self.operations):
            raise ValueError("operations names one twice")
        needed = {"left", "right"} | ({"operator"} if len(self.operations) > 1 else set())
        _check_places("prompt", self.prompt, needed=needed, known=_PROMPT_PLACES)
        _check_places("response", self.response, needed={"answer"}, known=_PROMPT_PLACES | {"answer"})
        return self

    def range_of(self, operand: OperandRange | None) -> range:
        """The integers that an operand can be. Zero has one digit."""
        if operand is not None:
            return range(operand.min, operand.max + 1)
        return range(10 ** (self.min_digits - 1) if self.min_digits > 1 else 0, 10**self.max_digits)


class Problem(NamedTuple):
    """One problem before it is worded."""

    operation: Operation
    left: int
    right: int


@registry.register("arithmetic", params=ArithmeticParams)
def arithmetic(params: ArithmeticParams, taken: Collection[str]) -> Iterator[Generated]:
    """Sums, differences and products of two integers, each problem once.

    A taken prompt also takes the problem with its operands swapped, where that has the same answer.
    """
    lefts, rights = params.range_of(params.left), params.range_of(params.right)
    blocks = [(operation, _count(operation, lefts, rights, params)) for operation in params.operations]
    total = sum(count for _, count in blocks)
    if total < params.num_rows:
        raise _too_few(total, 0, params)
    made: set[str] = set()
    num_taken = 0
    for number in _shuffled(total, random.Random(params.seed)):
        problem = _problem(number, blocks, lefts, rights, params)
        prompt = _word(params.prompt, problem)
        if prompt in taken or (problem.operation != "subtract" and _word(params.prompt, _swap(problem)) in taken):
            num_taken += 1
            continue
        if prompt in made:
            raise InvalidSpec(f"two different problems are both worded {prompt!r}; put a space between the operands")
        made.add(prompt)
        yield Generated(
            prompt,
            str(_answer(problem)),
            _word(params.response, problem),
            _word(params.response, problem, answer=_wrong_answer(problem, params.seed)),
        )
        if len(made) == params.num_rows:
            return
    raise _too_few(len(made), num_taken, params)


def _too_few(found: int, num_taken: int, params: ArithmeticParams) -> InvalidSpec:
    left_out = f" once {num_taken} excluded ones are left out" if num_taken else ""
    return InvalidSpec(
        f"only {found} different problems exist with these operands{left_out}, and num_rows is {params.num_rows}; "
        "ask for fewer, or widen the operands or operations"
    )


def _shuffled(total: int, rng: random.Random) -> Iterator[int]:
    """The numbers below `total` in random order, drawn one by one (Fisher-Yates, keeping only what was moved)."""
    moved: dict[int, int] = {}
    for place in range(total):
        other = rng.randrange(place, total)
        yield moved.get(other, other)
        moved[other] = moved.pop(place, place)


def _count(operation: Operation, lefts: range, rights: range, params: ArithmeticParams) -> int:
    if operation == "subtract" and not params.allow_negative:
        return _pairs_up_to(lefts.stop - 1, lefts, rights)
    return len(lefts) * len(rights)


def _pairs_up_to(left: int, lefts: range, rights: range) -> int:
    """How many pairs have a first operand up to `left` and a second one that is not larger than the first."""
    low, high, top = rights.start, rights.stop - 1, min(left, lefts.stop - 1)
    first = max(lefts.start, low)
    growing = max(0, min(top, high) - first + 1)  # first operands whose partners end with themselves
    whole = max(0, top - max(lefts.start, high + 1) + 1)  # first operands that pair with every second one
    return growing * (first - low + 1) + growing * (growing - 1) // 2 + whole * len(rights)


def _problem(
    number: int, blocks: list[tuple[Operation, int]], lefts: range, rights: range, params: ArithmeticParams
) -> Problem:
    """The problem that has this number."""
    operation = blocks[0][0]
    for operation, count in blocks:  # noqa: B007 - the one at which the loop stops
        if number < count:
            break
        number -= count
    if operation == "subtract" and not params.allow_negative:
        place = bisect_right(lefts, number, key=lambda left: _pairs_up_to(left, lefts, rights))
        left = lefts[place]
        return Problem(operation, left, rights[number - _pairs_up_to(left - 1, lefts, rights)])
    row, column = divmod(number, len(rights))
    return Problem(operation, lefts[row], rights[column])


def _swap(problem: Problem) -> Problem:
    return Problem(problem.operation, problem.right, problem.left)


def _answer(problem: Problem) -> int:
    return _COMPUTE[problem.operation](problem.left, problem.right)


def _wrong_answer(problem: Problem, seed: int) -> int:
    """An answer near the right one and of its sign; the same for the same problem and seed."""
    offset = random.Random(f"{seed} {problem}").choice(_OFFSETS)
    right = _answer(problem)
    return right + (offset if (right + offset < 0) == (right < 0) else -offset)


def _word(template: str, problem: Problem, answer: int | None = None) -> str:
    values = {
        "left": str(problem.left),
        "operator": _SYMBOLS[problem.operation],
        "right": str(problem.right),
        "answer": str(_answer(problem) if answer is None else answer),
    }
    return _PLACE.sub(lambda match: values[match[1]], template)


def _check_places(name: str, template: str, *, needed: set[str], known: set[str]) -> None:
    found = set(_PLACE.findall(template))
    for place in sorted(needed - found):
        raise ValueError(f"{name} must contain {{{place}}}")
    for place in sorted(found - known):
        raise ValueError(f"{name} contains {{{place}}}; known are {', '.join(f'{{{p}}}' for p in sorted(known))}")
