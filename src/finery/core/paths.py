"""The one way from a name that somebody gave to a path: inside a given folder, or not at all.

Every name that arrives from a user, a file or another process and becomes part of a path goes through `resolve_inside`.
The check is applied to what the name means, not to how it is spelled: symbolic links are followed, percent escapes are
undone (also twice) and characters that some file systems fold into `.` and `/` are folded.
"""

import re
import unicodedata
from pathlib import Path
from urllib.parse import unquote

from finery.core.errors import InvalidSpec, NotFound

MAX_NAME_BYTES = 1024
MAX_PART_BYTES = 255

_DRIVE = re.compile(r"^[A-Za-z]:")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def resolve_inside(root: Path, name: str, *, must_exist: bool = False) -> Path:
    """The absolute path that `name` means under `root`, links followed.

    Args:
        root: A folder of ours; need not exist yet.
        name: A relative path with `/` between its parts, at most MAX_NAME_BYTES long in UTF-8.
        must_exist: Refuse a name that nothing lies under.

    Raises:
        InvalidSpec: the name is empty, absolute, has `..`, a backslash or a control character, or leads out of `root`
            through a link or an escape.
        NotFound: `must_exist`, and there is nothing.

    NOTE: who can write under `root` can swap a file for a link after the check; give out no write access to it.
    """
    reason = _too_long(name) or next(filter(None, map(_refusal, _spellings(name))), "")
    if reason:
        raise InvalidSpec(f"{_shown(name)} is no name within a folder: {reason}")
    base = root.resolve()
    try:
        path = (base / name).resolve()
    except (OSError, RuntimeError) as error:  # RuntimeError: links that point at each other
        raise InvalidSpec(f"{_shown(name)} cannot be followed: {error}") from error
    if path == base or not path.is_relative_to(base):
        raise InvalidSpec(f"{_shown(name)} is no name within a folder: it leads outside of it")
    if must_exist and not path.exists():
        raise NotFound(f"there is no {_shown(name)}")
    return path


def _spellings(name: str) -> list[str]:
    """The name, each stage of undoing its percent escapes, and each of them with compatible characters folded."""
    found = [name]
    while (plain := unquote(found[-1], errors="replace")) != found[-1]:  # ends: each stage is shorter
        found.append(plain)
    return found + [unicodedata.normalize("NFKC", spelling) for spelling in found]


def _refusal(name: str) -> str:
    """What is wrong with one spelling, in words; empty when nothing is."""
    if not name.strip():
        return "it is empty"
    if _CONTROL.search(name):
        return "it has a control character"
    if "\\" in name:
        return "it has a backslash; put / between folders"
    if name.startswith(("/", "~")) or _DRIVE.match(name):
        return "it is absolute; give a relative one"
    if ".." in name.split("/"):
        return "it has a part `..`"
    return ""


def _too_long(name: str) -> str:
    try:
        encoded = name.encode()
    except UnicodeEncodeError:
        return "it is not valid Unicode"
    if len(encoded) > MAX_NAME_BYTES:
        return f"it is longer than {MAX_NAME_BYTES} bytes"
    if any(len(part) > MAX_PART_BYTES for part in encoded.split(b"/")):
        return f"a part of it is longer than {MAX_PART_BYTES} bytes"
    return ""


def _shown(name: str) -> str:
    return ascii(name if len(name) <= 80 else f"{name[:80]}...")
