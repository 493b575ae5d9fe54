"""Submits a job file from the user's machine: uploads what it names by content, adds the git state, posts it.

The server never sees a path of the client: `./train.jsonl` becomes `object:<sha256>`, a folder `tree:<sha256>`.
"""

from pathlib import Path
from typing import Any

from finery.core import refs
from finery.core.client import Client
from finery.core.errors import InvalidSpec
from finery.core.git import git_state
from finery.jobs import references
from finery.training.verl import template


def submit(client: Client, raw: dict[str, Any], *, base: Path) -> list[dict[str, Any]]:
    """Submit a validated job file and return the jobs as the server shows them.

    Args:
        client: Connected to the server.
        raw: The job file as plain data.
        base: Folder that relative paths are relative to: the one of the job file.

    Raises:
        InvalidSpec: a file that it names is not there.
    """
    is_pipeline = raw["kind"] == "pipeline"

    def upload(job: dict[str, Any]) -> dict[str, Any]:
        return references.replaced(template.expanded(job), lambda found: _uploaded(client, found, base))

    spec = {**raw, "jobs": [upload(job) for job in raw["jobs"]]} if is_pipeline else upload(raw)
    body = {"spec": spec, "code": git_state(base) or None}
    if is_pipeline:
        made: list[dict[str, Any]] = client.post("/pipelines", body)["jobs"]
        return made
    return [client.post("/jobs", body)]


def _uploaded(client: Client, found: references.Reference, base: Path) -> str:
    if found.kind == "secret" or not refs.is_local_path(found.text):
        return found.text
    path = (base / Path(found.text).expanduser()).resolve()
    if path.is_file():
        return f"object:{client.upload(path)}"
    if path.is_dir():
        files = [file for file in sorted(path.rglob("*")) if file.is_file()]
        named = {str(file.relative_to(path)): client.upload(file) for file in files}
        return f"tree:{client.post('/trees', {'files': named})['sha256']}"
    raise InvalidSpec(f"{found.dotted}: there is no file or folder {path}")
