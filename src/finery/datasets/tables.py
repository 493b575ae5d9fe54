"""Table of the datasets slice."""

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from finery.core.db import Table


class DatasetVersion(Table):
    """One immutable version. Its rows are an object: canonical JSONL under their sha256."""

    __tablename__ = "dataset_version"
    __table_args__ = (UniqueConstraint("name", "version"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    version: Mapped[int]
    format: Mapped[str]
    num_rows: Mapped[int]
    num_bytes: Mapped[int] = mapped_column(BigInteger)
    sha256: Mapped[str]
    source: Mapped[dict[str, Any]] = mapped_column(JSON)
    problems: Mapped[list[dict[str, Any]]] = mapped_column(JSON)
    num_problems: Mapped[int]
    created_at: Mapped[datetime]

    @property
    def ref(self) -> str:
        """What job files write."""
        return f"{self.name}@{self.version}"
