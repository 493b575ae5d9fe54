"""evaluations of checkpoints and their scores; pinned checkpoints."""

import sqlalchemy as sa
from alembic import op

import finery.core.db

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("job", sa.Column("parent_id", sa.Integer(), nullable=True))
    op.add_column("job", sa.Column("checkpoint_id", sa.Integer(), nullable=True))
    op.create_index("ix_job_parent_id", "job", ["parent_id"])
    op.create_index("ix_job_checkpoint_id", "job", ["checkpoint_id"])
    op.add_column("checkpoint", sa.Column("evaluation", sa.String(), nullable=False, server_default=""))
    op.add_column("checkpoint", sa.Column("is_pinned", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.create_index("ix_checkpoint_evaluation", "checkpoint", ["evaluation"])
    op.create_table(
        "checkpoint_score",
        sa.Column("job_id", sa.Integer(), sa.ForeignKey("job.id"), primary_key=True),
        sa.Column("checkpoint_id", sa.Integer(), nullable=False),
        sa.Column("series", sa.String(), nullable=False),
        sa.Column("num_correct", sa.Integer(), nullable=False),
        sa.Column("num_samples", sa.Integer(), nullable=False),
        sa.Column("outcomes", sa.LargeBinary(), nullable=False),
        sa.Column("scored_at", finery.core.db.UtcDateTime(timezone=True), nullable=False),
    )
    op.create_index("ix_checkpoint_score_checkpoint_id", "checkpoint_score", ["checkpoint_id"])


def downgrade() -> None:
    op.drop_table("checkpoint_score")
    op.drop_index("ix_checkpoint_evaluation", "checkpoint")
    op.drop_column("checkpoint", "is_pinned")
    op.drop_column("checkpoint", "evaluation")
    op.drop_index("ix_job_checkpoint_id", "job")
    op.drop_index("ix_job_parent_id", "job")
    op.drop_column("job", "checkpoint_id")
    op.drop_column("job", "parent_id")
