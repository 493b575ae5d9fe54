"""Numbers as people and models write them in running text, read exactly.

Owns one grammar: signs, thousands separators (`1,234`, `1{,}234`, `1\\,234`), decimals, fractions (`3/4`, `1 1/2`,
`\\frac{3}{4}`), scientific notation (`2e5`, `2 \\times 10^5`), currency before and a percent sign behind. Digits of any
script count as digits. Nothing is evaluated: a number is read by its digits, and absurd sizes are not numbers.
"""

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

MAX_DIGITS = 400
MAX_EXPONENT = 400

_INT = r"(?:\d{1,3}(?:(?:,(?:\\!\s?)?|\{,\}|\\,|[\u00a0\u2009\u202f])\d{3})+(?!\d)|\d++)"
_GRAMMAR = rf"""
    (?P<sign>(?<![0-9A-Za-z_)\]}}%!])[-+])?
    (?:\\?[$\u20ac\u00a3\u00a5\u20b9]\s?(?P<inner_sign>[-+])?)?
    (?:
        (?:(?P<latex_whole>\d++)\s*)?
        \\[dtc]?frac\s*
        (?:\{{\s*(?P<latex_num>-?{_INT})\s*\}}|(?P<latex_num1>\d))\s*
        (?:\{{\s*(?P<latex_den>{_INT})\s*\}}|(?P<latex_den1>\d))
      |
        (?<![/\d.])(?:(?P<whole>\d{{1,6}})\s(?=\d{{1,6}}/))?
        (?P<num>{_INT})\s?/\s?(?P<den>\d++)(?!\.?\d|/)
      |
        (?P<decimal>{_INT}(?:\.\d++)?|(?<!\d)\.\d++)
        (?:[eE](?P<e>[-+]?\d++)(?![A-Za-z])
          |\s*(?:\\times|\\cdot|\u00d7|\u00b7|\*|x)\s*10\s*(?:\^|\*\*)\s*(?P<brace>\{{)?(?P<ten>[-+]?\d++)(?(brace)\}}))?
    )
    (?P<percent>\s?\\?%)?
"""
_NUMBER = re.compile(_GRAMMAR, re.VERBOSE)
_PLAIN = str.maketrans(
    {
        "\uff0e": ".",
        "\uff0d": "-",
        "\u2212": "-",
        "\uff0b": "+",
        "\uff05": "%",
        "\uff0f": "/",
        "\uffe5": "\u00a5",
        "\uff04": "$",
    }
)
_ATTACHED = re.compile(r"(?:[\^_]\{?|\*\*|(?:^|[^\\A-Za-z])[A-Za-z]+)$")
"""What stands before an exponent, an index or a part of a word (x^2, x_1, m2): no number of its own."""
_WINDOW = 24


@dataclass(frozen=True)
class Number:
    """A number found in a text."""

    value: Fraction
    """Without regard to a percent sign: 25 for `25%`."""
    is_percent: bool
    text: str
    """In plain form: no separators, currency or plus; `-1234.5`, `3/4`, `2e5`."""
    is_attached: bool
    """It is an exponent, an index or part of a word."""
    start: int
    end: int


def fold(text: str) -> str:
    """Write digits, signs and points of any script in ASCII, one for one. A full-width comma stays: it separates."""
    if text.isascii():
        return text
    return re.sub(r"[^\x00-\x7f]", lambda found: _digit(found[0]), text.translate(_PLAIN))


def find(folded: str) -> Iterator[Number]:
    """The numbers of a folded text, from left to right."""
    for match in _NUMBER.finditer(folded):
        number = _read(match, folded)
        if number is not None:
            yield number


def match_start(folded: str) -> Number | None:
    """The number that a folded text begins with."""
    match = _NUMBER.match(folded)
    return _read(match, folded) if match else None


def parse(text: str) -> Number | None:
    """The number that the whole text is, spaces, `$...$` and a final period aside; None when it is anything more."""
    folded = fold(text).strip().removesuffix(".").strip()
    if len(folded) > 2 and folded[0] == folded[-1] == "$":
        folded = folded[1:-1].strip()
    match = _NUMBER.fullmatch(folded)
    return _read(match, folded) if match else None


def last(text: str) -> Number | None:
    """The last number of a text; an exponent, an index or a part of a word counts only where there is no other."""
    found = list(find(fold(text)))
    own = [number for number in found if not number.is_attached]
    best = own or found
    return best[-1] if best else None


def are_equal(one: Number, other: Number) -> bool:
    """Whether two numbers mean the same value.

    `25%` is 25 or 0.25, whichever the other one is. A decimal with six places or more equals a fraction that rounds
    to it.
    """
    if one.is_percent != other.is_percent:
        plain, percent = (other, one) if one.is_percent else (one, other)
        return plain.value in (percent.value, percent.value / 100)
    return one.value == other.value or _rounds_to(one, other) or _rounds_to(other, one)


def _rounds_to(exact: Number, decimal: Number) -> bool:
    places = len(decimal.text.partition(".")[2])
    return "/" in exact.text and places >= 6 and "e" not in decimal.text and round(exact.value, places) == decimal.value


def _digit(char: str) -> str:
    try:
        return str(unicodedata.decimal(char))
    except ValueError:
        return char


def _read(match: re.Match[str], folded: str) -> Number | None:
    is_negative = (match["sign"] == "-") != (match["inner_sign"] == "-")
    read = _fraction(match) if match["decimal"] is None else _decimal(match)
    if read is None:
        return None
    value, text = read
    if is_negative:
        value, text = -value, text[1:] if text.startswith("-") else f"-{text}"
    before = folded[max(0, match.start() - _WINDOW) : match.start()]
    return Number(value, match["percent"] is not None, text, bool(_ATTACHED.search(before)), match.start(), match.end())


def _decimal(match: re.Match[str]) -> tuple[Fraction, str] | None:
    mantissa = _strip(match["decimal"])
    mantissa = f"0{mantissa}" if mantissa.startswith(".") else mantissa
    exponent = match["e"] or match["ten"]
    if len(mantissa) > MAX_DIGITS or (exponent and (len(exponent) > 5 or abs(int(exponent)) > MAX_EXPONENT)):
        return None
    text = f"{mantissa}e{int(exponent)}" if exponent else mantissa
    return Fraction(text), text


def _fraction(match: re.Match[str]) -> tuple[Fraction, str] | None:
    whole = match["latex_whole"] or match["whole"] or "0"
    top = _strip(match["latex_num"] or match["latex_num1"] or match["num"])
    bottom = _strip(match["latex_den"] or match["latex_den1"] or match["den"])
    if max(len(whole), len(top), len(bottom)) > MAX_DIGITS or int(bottom) == 0:
        return None
    num, den = int(top), int(bottom)
    if int(whole):
        if num >= den:  # `7 48/2` is a 7 and a quotient
            return Fraction(num, den), f"{num}/{den}"
        num += int(whole) * den
    return Fraction(num, den), f"{num}/{den}"


def _strip(digits: str) -> str:
    return re.sub(r"[^\d.\-]", "", digits)
