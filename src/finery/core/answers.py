"""Takes the answer out of a completion and says whether it equals the target. Serves rewards and benchmarks alike.

Owns the conventions by which completions mark an answer (`\\boxed{}`, `#### 42`, "the answer is ...", the last number)
and the three meanings of equal: the same text, the same number, the same mathematics. How numbers are read is in
`numbers`, how mathematics is compared without trusting it is in `symbolic`.
"""

import re

from finery.core import numbers, symbolic

MAX_TEXT = 50_000
"""Characters from the end of a completion that are looked at."""
MAX_ANSWER = 300
"""A longer phrase is prose, not an answer."""

_THINK_END = "</think>"
_BRACES = re.compile(r"\\(?:boxed|fbox)\s*\{|\\.|[{}]", re.DOTALL)
_BOXED_BARE = re.compile(r"\\boxed\s+(\S+)")
_MARKED = re.compile(r"\\boxed|####")
_HASHES = re.compile(r"####[ \t]*([^\n]+)")
_PHRASE = re.compile(
    r"(?:\banswer(?:\s+to\b[^.:\n]{0,80}?)?\s+(?:is|equals)\b|\banswer\s*\**\s*[:=\uff1a]|\u7b54\u6848\s*\**\s*(?:\u662f|\u4e3a|[:=\uff1a]))"
    r"\s*(?:[:\uff1a]|\u662f|\u4e3a)?[ \t*]*",
    re.IGNORECASE,
)
_SENTENCE_END = re.compile(r"(?<!\\)[.!?;](?=\s|$)|[\u3002\uff01\uff1f\uff1b\n]")
_WRAPPED = tuple(
    re.compile(pattern, re.DOTALL)
    for pattern in (
        r"\$\$(.+?)\$\$",
        r"\$((?:\\.|[^$\\])+)\$",
        r"\\\((.+?)\\\)",
        r"\\\[(.+?)\\\]",
        r"\*\*(.+?)\*\*",
        r"`(.+?)`",
        r'"(.+?)"',
        r"\u201c(.+?)\u201d",
    )
)
_WORD = re.compile(r"[^\W\d_]{2,}")
_MONEY = re.compile(r"\$\s*[\d.,]+\s+[A-Za-z]")
"""`$5 and $6` begins with an amount of money, `$5$` with mathematics."""
_TEXT_COMMAND = re.compile(r"\\(?:text|mathrm|textbf|mathbf|textit|mbox)\s*\{([^{}]*)\}")
_UNIT = re.compile(
    r"\s*$"
    r"|\s*[\u3400-\u9fff\u00b0\uff0c\u3001(\uff08]"
    r"|\s*[,:](?=\s+[^\W\d])"
    r"|\s*\\(?:text|mathrm|textbf|mbox)\s*\{(?!\s*(?:or|and)\b)"
    r"|\s*\\?(?:,|;|!|\s)\s*\\(?:text|mathrm|mbox)\s*\{(?!\s*(?:or|and)\b)"
    r"|\s*\^?\s*\\(?:circ|degree)"
    r"|\s*\^\s*\{\s*\\circ\s*\}"
    r"|\s*(?!(?:or|and|pi|sqrt|times|plus|minus|mod)\b)[A-Za-z]{2,}"
    r"|\s+(?![xyznkabc]\b)[A-Za-z]\b"
)
"""What may stand behind a number without being mathematics: a unit, the rest of a sentence, a remark in brackets."""
_MATHEMATICS = re.compile(r"[\\^_=+*<>{}\[\]|]|\d[A-Za-z]|[A-Za-z]\d|\)\s*\(")


def last_number(text: str) -> str | None:
    """The last number of a text in plain form (`-1234.5`, `3/4`), or None.

    Separators, currency, units and the percent sign are dropped; an exponent (the 2 of `cm^2`) is no number of its own.
    """
    found = numbers.last(_tail(text))
    return found.text if found else None


def extract_answer(text: str) -> str | None:
    """The answer that a completion gives, or None when there is none.

    The first of these that is found, each at its last place: `\\boxed{...}`, `#### ...`, "answer is ..." (or `Answer:`,
    or the Chinese for it), the last number. What comes before `</think>` is not looked at. Numbers come in plain form
    without units, with a percent sign where there was one.
    """
    text = _tail(text)
    boxed = _last_boxed(text)
    if boxed is not None:
        return boxed
    for pattern in (_HASHES, _PHRASE):
        marked = _last_marked(pattern, text)
        if marked is not None:
            return marked
    found = numbers.last(text)
    return _show(found) if found else None


def extract_choice(text: str, letters: str = "ABCD") -> str | None:
    """The letter that a completion chooses, or None when there is none.

    The first of these that is found: a letter that the text marks as its answer (as in `extract_answer`, bare, in
    brackets or followed by the option's words), a text that begins with a letter and its option (`B) Paris`), the last
    letter that stands alone in brackets or bold. A capital that only begins a sentence ("A man ...") is no choice.

    Args:
        text: The completion.
        letters: Capital letters of the options.
    """
    said = _tail(text).strip()
    letter = f"[{re.escape(letters)}]"
    option = re.compile(
        rf"\s*[*_`\"'(\[]*({letter})(?:[)\].:*_`\"',]|\s*$|\s+[-\u2013\u2014]|\s+(?:is|because|since)\b)"
    )
    marked = _last_boxed(said) or _last_marked(_HASHES, said) or _last_phrase(said)
    for candidate in (marked, said):
        found = option.match(candidate) if candidate else None
        if found:
            return found[1]
    alone = re.findall(rf"[(\[*]({letter})[)\]*]|(?<![\w'])({letter})\s*$", said)
    return (alone[-1][0] or alone[-1][1]) if alone else None


def exact_equal(answer: str, target: str, *, ignore_case: bool = False) -> bool:
    """Whether two texts are the same but for white space at the ends and the amount of it between words."""
    one, other = " ".join(answer.split()), " ".join(target.split())
    return one.casefold() == other.casefold() if ignore_case else one == other


def numbers_equal(answer: str, target: str) -> bool:
    """Whether both are numbers of the same value. `25%` is 25 or 0.25, whichever the other one is."""
    one, other = numbers.parse(answer), numbers.parse(target)
    return one is not None and other is not None and numbers.are_equal(one, other)


def math_equal(answer: str, target: str, timeout_seconds: float = 5.0) -> bool:
    """Whether an answer is mathematically the target: numbers exactly, anything else through math-verify.

    Never raises for what is written in the two, never evaluates it as code, and works in any thread. What cannot be
    read or decided within the time is not equal.

    Args:
        answer: What the model gave, as `extract_answer` returns it; a whole completion is not searched.
        target: The truth, bare or in a worked solution that marks it by `\\boxed{}` or `####`. Order matters:
            math-verify takes the target at its word.
        timeout_seconds: For the part that needs algebra. Plain numbers and equal texts take microseconds.

    Raises:
        Unavailable: algebra is needed and math-verify is not installed.
    """
    if _MARKED.search(target):
        target = extract_answer(target) or target
    if not answer.strip() or not target.strip():
        return False
    if exact_equal(answer, target):
        return True
    one, other = numbers.parse(answer), numbers.parse(target)
    if one is not None and other is not None:
        return numbers.are_equal(one, other)
    return symbolic.are_equal(answer, target, timeout_seconds=timeout_seconds)


def _tail(text: str) -> str:
    text = text[-MAX_TEXT:]
    thought, mark, said = text.rpartition(_THINK_END)
    return said if mark and said.strip() else text


def _last_boxed(text: str) -> str | None:
    """Content of the box that begins last and is closed and not empty. One pass, whatever the nesting."""
    boxes: list[tuple[int, str]] = []
    open_at: list[int | None] = []
    for match in _BRACES.finditer(text):
        token = match[0]
        if token == "}" and open_at:
            start = open_at.pop()
            if start is not None and match.start() - start <= MAX_ANSWER:
                boxes.append((start, text[start : match.start()]))
        elif token == "{":
            open_at.append(None)
        elif token.endswith("{") and len(token) > 2:
            open_at.append(match.end())
    boxes.extend((match.start(1), match[1].strip("$.,")) for match in _BOXED_BARE.finditer(text) if match[1][0] != "{")
    for _, content in sorted(boxes, reverse=True):
        answer = _tidy(content)
        if answer is not None:
            return answer
    return None


def _last_phrase(text: str) -> str | None:
    """What stands behind the last "answer is", as it was written."""
    found = None
    for match in _PHRASE.finditer(text):
        found = text[match.end() : match.end() + MAX_ANSWER].partition("\n")[0]
    return found


def _last_marked(pattern: re.Pattern[str], text: str) -> str | None:
    for match in reversed(list(pattern.finditer(text))):
        phrase = match[1] if pattern.groups else text[match.end() : match.end() + 2 * MAX_ANSWER].lstrip()
        answer = _tidy(phrase)
        if answer is not None:
            return answer
    return None


def _tidy(phrase: str) -> str | None:
    """An answer in its plain form: without delimiters, units and the sentence around it; None when nothing is left."""
    phrase = _unwrap(phrase.strip())
    number = _leading_number(phrase)
    if number is not None:
        return number
    end = _SENTENCE_END.search(phrase)
    phrase = _unwrap((phrase[: end.start()] if end else phrase).strip().rstrip(".,;:\u3002*").strip())
    number = _leading_number(phrase)
    if number is not None:
        return number
    if not phrase or len(phrase) > MAX_ANSWER:
        return None
    inner = numbers.last(phrase)
    if inner is not None and not _MATHEMATICS.search(phrase) and len(_WORD.findall(phrase)) >= 2:
        return _show(inner)
    return phrase


def _leading_number(phrase: str) -> str | None:
    number = numbers.match_start(numbers.fold(phrase))
    if number is None:
        return None
    rest = phrase[number.end :]
    if _SENTENCE_END.match(rest.lstrip()) or _UNIT.match(rest):
        return _show(number)
    return None


def _unwrap(phrase: str) -> str:
    """Without the delimiters around it, or around its beginning."""
    for _ in range(4):
        before = phrase
        for pattern in _WRAPPED:
            match = pattern.match(phrase)
            if match and match[1].strip() and not _MONEY.match(phrase):
                phrase = match[1].strip()
        whole = _TEXT_COMMAND.fullmatch(phrase)
        phrase = whole[1].strip() if whole else phrase
        if phrase == before:
            break
    return phrase


def _show(number: numbers.Number) -> str:
    return f"{number.text}%" if number.is_percent else number.text
