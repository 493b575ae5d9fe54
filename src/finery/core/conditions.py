"""The language of alert rules: conditions over the metrics of a run, such as `reward_std < 0.01 for 500 steps`.

Owns: the grammar, its limits, and the value of a condition at one step. Does not own: what happens when it holds.

    condition  := any-of ("or") of all-of ("and") of ["not"] test
    test       := number comparison number | isnan(number) | isinf(number) | stale | stale(metric) | ( condition )
                  each may be followed by `for N steps`; stale must be, by `for N s`, `m`, `h` or `d`
    number     := 1e-3 | metric | f(metric, N) | + - * / and ( )
    f          := mean std min max slope zscore baseline

A metric is written as it is named (`reward/format_mean`), or in double quotes; a division needs spaces around its sign.
What a step says nothing of is unknown, not false: a metric that is logged every tenth step does not end a `for` in
between. Everything that a condition remembers is in `Memory`, which can be written down and read again.
"""

import math
import re
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, NamedTuple

from finery.core.errors import InvalidSpec

MAX_CHARACTERS: Final = 500
MAX_NODES: Final = 64
MAX_DEPTH: Final = 20
MAX_REMEMBERED: Final = 20_000
"""Values that all windows of a condition hold together: what bounds its memory and its time at each step."""
MAX_STEPS: Final = 1_000_000

ALIASES: Final = {
    "kl": "kl_divergence",
    "lr": "learning_rate",
    "generation_speed": "generation_tokens_per_second",
    "response_length": "response_length_mean",
}
"""Other words for metrics; in double quotes a name is taken as it is."""
_SECONDS: Final = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_COMPARISONS: Final[dict[str, Callable[[float, float], bool]]] = {
    ">": lambda left, right: left > right,
    ">=": lambda left, right: left >= right,
    "<": lambda left, right: left < right,
    "<=": lambda left, right: left <= right,
    "==": lambda left, right: left == right,
    "!=": lambda left, right: left != right,
}
_CHECKS: Final[dict[str, Callable[[float], bool]]] = {"isnan": math.isnan, "isinf": math.isinf}
_TOKEN: Final = re.compile(
    r"""\s*(?:
        (?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)
      | "(?P<quoted>[^"\n]{1,200})"
      | (?P<name>[A-Za-z_]\w*(?:[./][A-Za-z_]\w*)*)
      | (?P<sign>[<>=!]=|[<>+\-*/(),])
    )""",
    re.VERBOSE,
)
_WORDS: Final = frozenset({"and", "or", "not", "for", "step", "steps", "stale"})


@dataclass(frozen=True)
class Number:
    """A number that stands in the text."""

    value: float


@dataclass(frozen=True)
class Metric:
    """The value of a metric at this step."""

    name: str


@dataclass(frozen=True)
class Window:
    """A figure of the last values of a metric."""

    function: str
    metric: str
    size: int


@dataclass(frozen=True)
class Arithmetic:
    """`left sign right`."""

    sign: Literal["+", "-", "*", "/"]
    left: "Numeric"
    right: "Numeric"


@dataclass(frozen=True)
class Comparison:
    """`left sign right`; false where one of them is no number, but for `!=`."""

    sign: str
    left: "Numeric"
    right: "Numeric"


@dataclass(frozen=True)
class Check:
    """`isnan` or `isinf`."""

    function: str
    operand: "Numeric"


@dataclass(frozen=True)
class Stale:
    """For so long nothing came of a metric; of the whole run where it is empty. Only who watches from outside knows."""

    metric: str
    seconds: float


@dataclass(frozen=True)
class Not:
    """The opposite."""

    operand: "Condition"


@dataclass(frozen=True)
class Both:
    """All of them (`and`), or one (`or`)."""

    word: Literal["and", "or"]
    operands: tuple["Condition", ...]


@dataclass(frozen=True)
class For:
    """Held at every step that spoke of it, for at least so many steps."""

    operand: "Condition"
    steps: int


Numeric = Number | Metric | Window | Arithmetic
Condition = Comparison | Check | Stale | Not | Both | For


@dataclass
class Memory:
    """What one condition remembers from step to step."""

    values: dict[str, list[tuple[int, float]]] = field(default_factory=dict)
    """Metric -> (step, value) of its newest values, oldest first; what is no number is left out."""
    firsts: dict[str, list[float]] = field(default_factory=dict)
    """Metric -> its first values, for `baseline`."""
    since: dict[str, int] = field(default_factory=dict)
    """`For` as text -> the step since which it has held."""

    def dump(self) -> dict[str, Any]:
        """As plain data, from which `Memory(**data)` is the same."""
        return {"values": self.values, "firsts": self.firsts, "since": self.since}


def parse(text: str) -> Condition:
    """Read a condition.

    Raises:
        InvalidSpec: it is none, or asks for too much; the message says where and what was expected.
    """
    if len(text) > MAX_CHARACTERS:
        raise InvalidSpec(f"a condition has at most {MAX_CHARACTERS} characters; this one has {len(text)}")
    found = _Parser(text).whole()
    nodes = list(walk(found))
    if len(nodes) > MAX_NODES:
        raise InvalidSpec(f"a condition has at most {MAX_NODES} parts; this one has {len(nodes)}")
    remembered = sum(_needs(found).values())
    if remembered > MAX_REMEMBERED:
        raise InvalidSpec(f"the windows of a condition hold at most {MAX_REMEMBERED} values together, not {remembered}")
    return found


def walk(node: Numeric | Condition) -> Iterator[Numeric | Condition]:
    """The node and everything below it."""
    yield node
    children: Sequence[Numeric | Condition] = ()
    if isinstance(node, Arithmetic | Comparison):
        children = (node.left, node.right)
    elif isinstance(node, Check | Not | For):
        children = (node.operand,)
    elif isinstance(node, Both):
        children = node.operands
    for child in children:
        yield from walk(child)


def metrics(condition: Condition) -> set[str]:
    """Names of the metrics that it speaks of."""
    return {
        node.name if isinstance(node, Metric) else node.metric
        for node in walk(condition)
        if isinstance(node, Metric | Window) or (isinstance(node, Stale) and node.metric)
    }


def remember(condition: Condition, memory: Memory, step: int, values: Mapping[str, float]) -> None:
    """Take in the metrics of a step, before `holds`. A step that comes again takes the place of what followed it."""
    memory.since = {key: since for key, since in memory.since.items() if since <= step}
    for name, size in _needs(condition).items():
        value = values.get(name)
        if value is None or not math.isfinite(value):
            continue
        kept = memory.values.setdefault(name, [])
        while kept and kept[-1][0] >= step:  # the run went back to a checkpoint
            kept.pop()
        kept.append((step, value))
        del kept[:-size]
        firsts = memory.firsts.setdefault(name, [])
        if len(firsts) < _baseline(condition, name):
            firsts.append(value)


def holds(
    condition: Condition,
    memory: Memory,
    step: int,
    values: Mapping[str, float],
    *,
    silence: Callable[[str], float | None] = lambda _: None,
) -> bool | None:
    """Whether it holds at a step; None where that is not known.

    Args:
        condition: From `parse`.
        memory: Of all steps so far, this one taken in by `remember`.
        step: Optimizer steps done, from 1.
        values: Metrics of this step.
        silence: Seconds since a metric came, or anything at all for the empty name; None inside the run, which cannot
            know.
    """
    return _Evaluation(memory, step, values, silence).truth(condition)


class _Evaluation(NamedTuple):
    memory: Memory
    step: int
    values: Mapping[str, float]
    silence: Callable[[str], float | None]

    def truth(self, node: Condition) -> bool | None:
        if isinstance(node, Comparison):
            left, right = self.number(node.left), self.number(node.right)
            return None if left is None or right is None else _COMPARISONS[node.sign](left, right)
        if isinstance(node, Check):
            value = self.number(node.operand)
            return None if value is None else _CHECKS[node.function](value)
        if isinstance(node, Stale):
            seconds = self.silence(node.metric)
            return None if seconds is None else seconds >= node.seconds
        if isinstance(node, Not):
            truth = self.truth(node.operand)
            return None if truth is None else not truth
        if isinstance(node, Both):
            return self._both(node)
        return self._for(node)

    def _both(self, node: Both) -> bool | None:
        decisive = node.word == "or"
        truths = [self.truth(operand) for operand in node.operands]  # all of them: each has a memory of its own
        if decisive in truths:
            return decisive
        return None if None in truths else not decisive

    def _for(self, node: For) -> bool | None:
        truth = self.truth(node.operand)
        if truth is None:
            return None
        key = render(node)
        if not truth:
            self.memory.since.pop(key, None)
            return False
        return self.step - self.memory.since.setdefault(key, self.step) + 1 >= node.steps

    def number(self, node: Numeric) -> float | None:
        if isinstance(node, Number):
            return node.value
        if isinstance(node, Metric):
            return self.values.get(node.name)
        if isinstance(node, Window):
            return self._window(node)
        left, right = self.number(node.left), self.number(node.right)
        return None if left is None or right is None else _computed(node.sign, left, right)

    def _window(self, node: Window) -> float | None:
        """None until there are as many values as the window holds, and where this step has none."""
        if node.metric not in self.values:
            return None
        if node.function == "baseline":
            firsts = self.memory.firsts.get(node.metric, ())
            return statistics.fmean(firsts[: node.size]) if len(firsts) >= node.size else None
        points = self.memory.values.get(node.metric, [])
        if node.function == "zscore":
            return _zscore(points[-node.size - 1 :], node.size)
        points = points[-node.size :]
        if len(points) < node.size:
            return None
        return _FIGURES[node.function](points)


def _computed(sign: str, left: float, right: float) -> float:
    if sign == "+":
        return left + right
    if sign == "-":
        return left - right
    if sign == "*":
        return left * right
    if right == 0:
        return math.nan if left == 0 or math.isnan(left) else math.copysign(math.inf, left)
    return left / right


def _slope(points: Sequence[tuple[int, float]]) -> float:
    """Least squares, per step."""
    return statistics.linear_regression([step for step, _ in points], [value for _, value in points]).slope


def _zscore(points: Sequence[tuple[int, float]], size: int) -> float | None:
    """How many standard deviations the newest value lies above the mean of those before."""
    if len(points) <= size:
        return None
    *before, newest = [value for _, value in points]
    mean = statistics.fmean(before)
    deviation = statistics.pstdev(before, mean)
    if deviation == 0:
        return 0.0 if newest == mean else math.copysign(math.inf, newest - mean)
    return (newest - mean) / deviation


_FIGURES: Final[dict[str, Callable[[Sequence[tuple[int, float]]], float]]] = {
    "mean": lambda points: statistics.fmean(value for _, value in points),
    "std": lambda points: statistics.pstdev(value for _, value in points),
    "min": lambda points: min(value for _, value in points),
    "max": lambda points: max(value for _, value in points),
    "slope": _slope,
}
_WINDOWS: Final = (*_FIGURES, "zscore", "baseline")


def _needs(condition: Condition) -> dict[str, int]:
    """Metric -> how many of its values are kept."""
    needed: dict[str, int] = {}
    for node in walk(condition):
        if isinstance(node, Window):
            size = 1 if node.function == "baseline" else node.size + (node.function == "zscore")
            needed[node.metric] = max(needed.get(node.metric, 0), size)
    return needed


def _baseline(condition: Condition, metric: str) -> int:
    sizes = [
        node.size
        for node in walk(condition)
        if isinstance(node, Window) and (node.function, node.metric) == ("baseline", metric)
    ]
    return max(sizes, default=0)


def render(node: Numeric | Condition) -> str:
    """The text of a condition in one form, with every parenthesis that it could need; `parse` gives the same again."""
    if isinstance(node, Number):
        return repr(node.value)
    if isinstance(node, Metric):
        return _named(node.name)
    if isinstance(node, Window):
        return f"{node.function}({_named(node.metric)}, {node.size})"
    if isinstance(node, Arithmetic | Comparison):
        return f"({render(node.left)} {node.sign} {render(node.right)})"
    if isinstance(node, Check):
        return f"{node.function}({render(node.operand)})"
    if isinstance(node, Stale):
        silent = f"stale({_named(node.metric)})" if node.metric else "stale"
        return f"({silent} for {node.seconds!r} s)"
    if isinstance(node, Not):
        return f"(not {render(node.operand)})"
    if isinstance(node, Both):
        return "(" + f" {node.word} ".join(render(operand) for operand in node.operands) + ")"
    return f"({render(node.operand)} for {node.steps} steps)"


def _named(metric: str) -> str:
    token = _TOKEN.fullmatch(metric)
    is_plain = token is not None and token["name"] == metric and metric not in _WORDS
    return metric if is_plain else f'"{metric}"'


class _Token(NamedTuple):
    kind: str
    """number, quoted, name, sign, or end."""
    text: str
    at: int


class _Parser:
    """Recursive descent, one method a level. A parenthesis may hold a condition or a number: who needs one says so."""

    def __init__(self, text: str):
        self._text = text
        self._tokens = list(_tokens(text))
        self._next = 0
        self._depth = 0

    def whole(self) -> Condition:
        found = self._condition(self._any_of())
        if self._now.kind != "end":
            raise self._error("the end, `and` or `or`")
        return found

    @property
    def _now(self) -> _Token:
        return self._tokens[self._next]

    def _take(self, *texts: str) -> bool:
        """Go past the next token where it is one of these."""
        if self._now.kind not in ("name", "sign") or self._now.text not in texts:
            return False
        self._next += 1
        return True

    def _expect(self, text: str) -> None:
        if not self._take(text):
            raise self._error(f"`{text}`")

    def _error(self, wanted: str, token: _Token | None = None) -> InvalidSpec:
        token = token or self._now
        seen = "the end" if token.kind == "end" else f"`{token.text}`"
        return InvalidSpec(
            f"condition `{self._text}`, character {token.at + 1}: {wanted} was expected, not {seen}; for example "
            "`grad_norm > 100`, `reward_std < 0.01 for 500 steps`, `isnan(loss)`, `stale for 10m`"
        )

    def _condition(self, found: Numeric | Condition) -> Condition:
        if isinstance(found, Numeric):
            raise self._error("a comparison such as `> 1`")
        return found

    def _number(self, found: Numeric | Condition) -> Numeric:
        if not isinstance(found, Numeric):
            raise self._error("a number or metric, not a condition, before this")
        return found

    def _any_of(self) -> Numeric | Condition:
        return self._joined("or", self._all_of)

    def _deeper(self, part: Callable[[], Numeric | Condition]) -> Numeric | Condition:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise self._error(f"less nesting, at most {MAX_DEPTH} deep,")
        found = part()
        self._depth -= 1
        return found

    def _all_of(self) -> Numeric | Condition:
        return self._joined("and", self._negated)

    def _joined(self, word: Literal["and", "or"], part: Callable[[], Numeric | Condition]) -> Numeric | Condition:
        first = part()
        if self._now.text != word or self._now.kind != "name":
            return first
        operands = [self._condition(first)]
        while self._take(word):
            operands.append(self._condition(part()))
        return Both(word, tuple(operands))

    def _negated(self) -> Numeric | Condition:
        if self._take("not"):
            return Not(self._condition(self._deeper(self._negated)))
        return self._lasting()

    def _lasting(self) -> Numeric | Condition:
        """A test, and for how long."""
        if self._take("stale"):
            return self._stale()
        found = self._test()
        while self._take("for"):
            steps = self._count("a number of steps", MAX_STEPS)
            if not self._take("step", "steps"):
                raise self._error("`steps`")
            found = For(self._condition(found), steps)
        return found

    def _stale(self) -> Stale:
        metric = ""
        if self._take("("):
            metric = self._metric()
            self._expect(")")
        self._expect("for")
        token = self._now
        if token.kind != "number":
            raise self._error("a time such as `10m`")
        self._next += 1
        unit = self._now.text
        if not self._take(*_SECONDS):
            raise self._error("`s`, `m`, `h` or `d`")
        return Stale(metric, float(token.text) * _SECONDS[unit])

    def _test(self) -> Numeric | Condition:
        left = self._sum()
        sign = self._now.text
        if self._now.kind != "sign" or not self._take(*_COMPARISONS):
            return left
        return Comparison(sign, self._number(left), self._number(self._sum()))

    def _sum(self) -> Numeric | Condition:
        return self._computed(("+", "-"), self._product)

    def _product(self) -> Numeric | Condition:
        return self._computed(("*", "/"), self._signed)

    def _computed(self, signs: tuple[str, ...], part: Callable[[], Numeric | Condition]) -> Numeric | Condition:
        found = part()
        while self._now.kind == "sign" and self._now.text in signs:
            sign: Any = self._now.text
            self._next += 1
            found = Arithmetic(sign, self._number(found), self._number(part()))
        return found

    def _signed(self) -> Numeric | Condition:
        if self._take("-"):
            operand = self._number(self._deeper(self._signed))
            return Number(-operand.value) if isinstance(operand, Number) else Arithmetic("-", Number(0.0), operand)
        return self._primary()

    def _primary(self) -> Numeric | Condition:
        token = self._now
        if self._take("("):
            found = self._deeper(self._any_of)
            self._expect(")")
            return found
        if token.kind == "number":
            self._next += 1
            return Number(float(token.text))
        if token.kind == "name" and token.text not in _WORDS and self._tokens[self._next + 1].text == "(":
            return self._call()
        return Metric(self._metric())

    def _call(self) -> Numeric | Condition:
        token = self._now
        known = (*_CHECKS, *_WINDOWS)
        if token.text not in known:
            raise self._error(f"one of the functions {', '.join(known)}")
        self._next += 2
        found: Numeric | Condition
        if token.text in _CHECKS:
            found = Check(token.text, self._number(self._deeper(self._sum)))
        else:
            metric = self._metric()
            self._expect(",")
            least = 2 if token.text in ("std", "slope", "zscore") else 1
            found = Window(token.text, metric, self._count("a number of values", MAX_REMEMBERED, least=least))
        self._expect(")")
        return found

    def _metric(self) -> str:
        token = self._now
        if token.kind not in ("name", "quoted") or (token.kind == "name" and token.text in _WORDS):
            raise self._error("a metric")
        self._next += 1
        return ALIASES.get(token.text, token.text) if token.kind == "name" else token.text

    def _count(self, wanted: str, most: int, *, least: int = 1) -> int:
        token = self._now
        if token.kind != "number" or not float(token.text).is_integer() or not least <= float(token.text) <= most:
            raise self._error(f"{wanted} from {least} to {most}")
        self._next += 1
        return int(float(token.text))


def _tokens(text: str) -> Iterator[_Token]:
    at = 0
    while text[at:].strip():
        found = _TOKEN.match(text, at)
        if found is None:
            at += len(text[at:]) - len(text[at:].lstrip())
            raise InvalidSpec(f"condition `{text}`, character {at + 1}: {text[at]!r} has no meaning here")
        kind = str(found.lastgroup)
        yield _Token(kind, found[kind], found.start(kind))
        at = found.end()
    yield _Token("end", "", len(text))
