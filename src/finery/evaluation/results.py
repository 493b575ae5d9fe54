"""What an evaluation leaves in its attempt: `samples/evaluation.jsonl` as it goes, `result.json` at the end.

An evaluation is complete when `result.json` exists. Later versions read both files, so their shape is fixed here.
"""

from pathlib import Path
from typing import Any, Literal

import orjson
from pydantic import BaseModel, ConfigDict

from finery.core import checkpoints
from finery.core.errors import NotFound
from finery.evaluation.specs import SampleResult

RESULT = "result.json"
SAMPLES = "evaluation"
"""Name of the stream under samples/."""


class StoredResult(BaseModel):
    """result.json."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)
    version: Literal[1] = 1
    benchmark: str
    params: dict[str, Any]
    model: str
    """Reference as written in the job file."""
    data: str | None
    data_sha256: str | None
    num_samples: int
    num_correct: int
    num_unfinished: int
    """Completions that were cut off at `max_new_tokens`."""
    accuracy: float
    interval: tuple[float, float]
    """95 % Wilson interval of the accuracy."""


def write_result(attempt: Path, result: StoredResult) -> Path:
    """Write result.json by rename."""
    path = attempt / RESULT
    checkpoints.write_atomically(path, orjson.dumps(result.model_dump(), option=orjson.OPT_INDENT_2))
    return path


def read_result(attempt: Path) -> StoredResult:
    """The result of a complete evaluation.

    Raises:
        NotFound: the evaluation is not complete.
    """
    try:
        return StoredResult.model_validate_json((attempt / RESULT).read_bytes())
    except FileNotFoundError:
        raise NotFound("this evaluation has no result yet; it has one when the job is completed") from None


def read_samples(attempt: Path) -> list[SampleResult]:
    """The answered problems so far, each once, by index. A line that is still being written is left out."""
    try:
        content = (attempt / "samples" / f"{SAMPLES}.jsonl").read_bytes()
    except FileNotFoundError:
        return []
    whole = content[: content.rfind(b"\n") + 1]
    found = [SampleResult.model_validate_json(line) for line in whole.splitlines() if line.strip()]
    newest = {sample.index: sample for sample in found}
    return [newest[index] for index in sorted(newest)]
