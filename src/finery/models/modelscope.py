"""ModelScope (`MODELSCOPE_ENDPOINT` names another server): what a name stands for, and which files it has.

Speaks the two requests of its REST API that are needed, list files and read a file, as the library modelscope-hub 0.5
does. A branch there has no commit that could be asked for by itself, so a name is pinned to the hashes of its files.
"""

import hashlib
import os
from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import quote, urlencode

import httpx

from finery.core.errors import Forbidden, NotFound, Unavailable
from finery.models.downloading import RemoteFile

ENDPOINT: Final = "https://www.modelscope.cn"
TOKEN: Final = "MODELSCOPE_API_TOKEN"
BRANCH: Final = "master"
_TIMEOUT_SECONDS = 20.0


def pin(repo: str, revision: str | None, token: str | None) -> tuple[str, list[str]]:
    """One hash over names and hashes of all files of a repository, and the names.

    Raises:
        NotFound: no such repository or revision. Forbidden: private. Unavailable: the hub cannot be reached or fails.
    """
    files = list_files(repo, revision, token)
    return digest(files), [file.path for file in files]


def digest(files: Sequence[RemoteFile]) -> str:
    """One hash over names, sizes and hashes."""
    lines = sorted(f"{file.path}\0{file.num_bytes}\0{file.sha256 or ''}\n" for file in files)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def list_files(repo: str, revision: str | None, token: str | None) -> list[RemoteFile]:
    """The files of a revision with their sizes and hashes.

    Raises:
        As `pin`.
    """
    root = f"{_endpoint()}/api/v1/models/{quote(repo)}/repo"
    branch = revision or BRANCH
    answer = _get(f"{root}/files?{urlencode({'Revision': branch, 'Recursive': 'True'})}", repo, branch, token)
    entries = (answer.get("Data") or {}).get("Files") or []
    return [
        RemoteFile(
            path=str(entry["Path"]),
            num_bytes=int(entry.get("Size") or 0),
            repo=repo,
            url=f"{root}?{urlencode({'Revision': branch, 'FilePath': entry['Path']})}",
            sha256=entry.get("Sha256") or None,
        )
        for entry in entries
        if entry.get("Type") != "tree"
    ]


def headers(token: str | None) -> dict[str, str]:
    """What tells ModelScope who asks."""
    return {"Authorization": f"Bearer {token}", "Cookie": f"m_session_id={token}"} if token else {}


def _endpoint() -> str:
    return (os.environ.get("MODELSCOPE_ENDPOINT") or ENDPOINT).rstrip("/")


def _get(url: str, repo: str, revision: str, token: str | None) -> dict[str, Any]:
    try:
        response = httpx.get(url, headers=headers(token), timeout=_TIMEOUT_SECONDS, follow_redirects=True)
    except httpx.TransportError as error:
        raise Unavailable(f"ModelScope cannot be reached for {repo} ({error}); use a local folder") from error
    if response.status_code in (401, 403):
        raise Forbidden(f"ModelScope does not let us read {repo}; set MODELSCOPE_API_TOKEN to a token that may")
    if response.status_code == 404:
        raise NotFound(f"ModelScope has no model {repo} with a revision {revision!r}: check the spelling")
    if response.status_code != 200:
        raise Unavailable(f"ModelScope answered {response.status_code} for {repo}; try again")
    try:
        found: dict[str, Any] = response.json()
    except ValueError as error:
        raise Unavailable(f"ModelScope answered {repo} with something that is no JSON; try again") from error
    return found
