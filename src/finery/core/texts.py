"""Texts as lists of parts, for lengths and repetitions."""

import re
from typing import Literal

Unit = Literal["characters", "words"]

_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]|\w+(?:['\u2019-]\w+)*")


def parts(text: str, unit: Unit) -> list[str]:
    """Characters, white space at the ends aside, or words; each Chinese, Japanese and Korean character is a word."""
    return list(text.strip()) if unit == "characters" else _WORD.findall(text)
