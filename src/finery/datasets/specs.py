"""What datasets look like from outside."""

from datetime import datetime
from typing import Any, Literal

from pydantic import Field

from finery.core.spec import Spec, View

DatasetFormat = Literal["sft", "verifiable", "preference", "unpaired"]
"""`sft`: {"prompt", "response"} or {"instruction", "response"} or {"messages": [...]} rows.
`verifiable`: {"prompt", "answer"} rows, optionally {"reward_func"}; a prompt may be text or chat messages.
`preference`: {"prompt", "chosen", "rejected"} rows, optionally {"margin"}. `unpaired`: {"prompt", "completion",
"label"} rows, the label true for a good answer."""

NAME_PATTERN = r"^[a-z0-9][a-z0-9._-]{0,63}$"


class ImportSpec(Spec):
    """Make a dataset version from an uploaded file."""

    name: str = Field(pattern=NAME_PATTERN)
    """Lower-case letters, digits, dot, underscore and hyphen, at most 64 characters."""
    object: str = Field(pattern=r"^[0-9a-f]{64}$")
    """sha256 of the uploaded file (JSONL, JSON, CSV or Parquet)."""
    file_name: str = Field(pattern=r"^[^\x00-\x1f/\\]+$", max_length=255)
    """Name of the file on the user's side; its ending tells the file type."""
    format: DatasetFormat | None = None
    """None detects it from the rows."""
    keep_good_rows: bool = False
    """Leave out broken rows, reported by line number, instead of refusing the file."""


class GenerateSpec(Spec):
    """Make a dataset version with a generator."""

    generator: str
    """Name in the generator registry, such as `arithmetic`."""
    name: str = Field(pattern=NAME_PATTERN)
    params: dict[str, Any] = {}
    """Checked against the generator's params model."""


class RowProblem(View):
    """A row that was refused."""

    line: int
    """1-based line (or row) number in the file."""
    message: str


class DatasetVersionView(View):
    """One immutable version."""

    ref: str
    """`name@n`, what job files use."""
    name: str
    version: int
    format: DatasetFormat
    num_rows: int
    num_bytes: int
    sha256: str
    created_at: datetime
    source: dict[str, Any]
    """Where the rows come from: file name or generator with its parameters."""
    problems: list[RowProblem]
    """Rows that were left out (the first 100), when good rows were kept on request."""
    num_problems: int


class DatasetPage(View):
    versions: list[DatasetVersionView]
    total: int
    """Versions in all, on this page or not."""


class RowPage(View):
    """Some rows of one version."""

    ref: str
    num_rows: int
    offset: int
    rows: list[dict[str, Any]]


class GeneratorView(View):
    name: str
    summary: str
    params_schema: dict[str, Any]
    """JSON Schema; CLI help and the UI form come from it."""


class GeneratorPage(View):
    generators: list[GeneratorView]
