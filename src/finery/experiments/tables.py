"""Table of the experiments slice: scores of checkpoints, as the worker found them."""

from datetime import datetime

from sqlalchemy import ForeignKey, LargeBinary
from sqlalchemy.orm import Mapped, mapped_column

from finery.core.db import Table


class CheckpointScore(Table):
    """Result of a completed evaluation of a checkpoint. What it was asked and answered lies in the run directory."""

    __tablename__ = "checkpoint_score"

    job_id: Mapped[int] = mapped_column(ForeignKey("job.id"), primary_key=True, autoincrement=False)
    """The evaluation."""
    checkpoint_id: Mapped[int] = mapped_column(index=True)
    series: Mapped[str]
    """Key of what it was asked (`timeline.series`); scores of one series can be compared problem by problem."""
    num_correct: Mapped[int]
    num_samples: Mapped[int]
    outcomes: Mapped[bytes] = mapped_column(LargeBinary)
    """One byte for each problem, in order: 1 where it was solved."""
    scored_at: Mapped[datetime]
