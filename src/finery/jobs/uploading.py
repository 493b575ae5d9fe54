"""Submits a job file from the user's machine: uploads what it names by content, adds the git state, posts it.

The server never sees a path of the client: `./train.jsonl` becomes `object:<sha256>`, a folder `tree:<sha256>`.
"""

import copy
from pathlib import Path
from typing import Any

from finery.core import refs
from finery.core.client import Client
from finery.core.errors import InvalidSpec
from finery.core.git import git_state


def submit(client: Client, raw: dict[str, Any], *, base: Path) -> list[dict[str, Any]]:
    """Submit a validated job file and return the jobs as the server shows them.

    Args:
        client: Connected to the server.
        raw: The job file as plain data.
        base: Folder that relative paths are relative to: the one of the job file.

    Raises:
        InvalidSpec: a file that it names is not there.
    """
    spec = copy.deepcopy(raw)
    is_pipeline = spec["kind"] == "pipeline"
    for job in spec["jobs"] if is_pipeline else [spec]:
        _upload_references(client, job, base)
    body = {"spec": spec, "code": git_state(base) or None}
    if is_pipeline:
        made: list[dict[str, Any]] = client.post("/pipelines", body)["jobs"]
        return made
    return [client.post("/jobs", body)]


def _upload_references(client: Client, job: dict[str, Any], base: Path) -> None:
    task = job["task"]
    task["model"]["base"] = _uploaded(client, task["model"]["base"], base, "task.model.base")
    if job["kind"] == "train":
        task["data"]["train"] = _uploaded(client, task["data"]["train"], base, "task.data.train")
    elif task.get("data"):
        task["data"] = _uploaded(client, task["data"], base, "task.data")


def _uploaded(client: Client, ref: str, base: Path, field: str) -> str:
    if not refs.is_local_path(ref):
        return ref
    path = (base / Path(ref).expanduser()).resolve()
    if path.is_file():
        return f"object:{client.upload(path)}"
    if path.is_dir():
        files = [file for file in sorted(path.rglob("*")) if file.is_file()]
        named = {str(file.relative_to(path)): client.upload(file) for file in files}
        return f"tree:{client.post('/trees', {'files': named})['sha256']}"
    raise InvalidSpec(f"{field}: there is no file or folder {path}")
