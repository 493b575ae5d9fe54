"""The git state of a folder: which code a result was made with."""

import subprocess
from pathlib import Path
from typing import Any, Final

MAX_DIFF: Final = 1_000_000
"""Characters of uncommitted changes that are kept."""


def git_state(folder: Path) -> dict[str, Any]:
    """Commit, branch and uncommitted changes of the work tree that `folder` lies in; empty when there is none."""
    commit = _git(folder, "rev-parse", "HEAD")
    if commit is None:
        return {}
    diff = _git(folder, "diff", "HEAD", "--no-color", "--no-ext-diff") or ""
    return {
        "commit": commit.strip(),
        "branch": (_git(folder, "rev-parse", "--abbrev-ref", "HEAD") or "").strip() or None,
        "is_dirty": bool(diff),
        "diff": diff[:MAX_DIFF],
    }


def _git(folder: Path, *arguments: str) -> str | None:
    argv = ["git", "-C", str(folder), *arguments]
    try:
        done = subprocess.run(argv, capture_output=True, timeout=20, check=True, stdin=subprocess.DEVNULL)
    except (FileNotFoundError, subprocess.SubprocessError):
        return None
    return done.stdout.decode("utf-8", "replace").replace("\0", "\N{REPLACEMENT CHARACTER}")
