"""What a comparison leaves in its attempt at its end: `comparison.json`. Later versions read it too."""

from pathlib import Path
from typing import Final

import orjson
from pydantic import ValidationError

from finery.core import checkpoints
from finery.core.errors import Conflict, NotFound
from finery.training.specs import PolicyTable

RESULT: Final = "comparison.json"


def write_table(attempt: Path, table: PolicyTable) -> Path:
    """Write comparison.json by rename."""
    path = attempt / RESULT
    checkpoints.write_atomically(path, orjson.dumps(table.model_dump(mode="json"), option=orjson.OPT_INDENT_2))
    return path


def read_table(attempt: Path) -> PolicyTable:
    """The table of a complete comparison.

    Raises:
        NotFound: the comparison is not complete. Conflict: its file holds something else.
    """
    try:
        return PolicyTable.model_validate_json((attempt / RESULT).read_bytes())
    except FileNotFoundError:
        raise NotFound("this comparison has no table yet; it has one when the job is completed") from None
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise Conflict(
            f"{RESULT} of this comparison cannot be read: {first['msg']}{f' at {place}' if place else ''}; "
            "run the comparison again"
        ) from error
