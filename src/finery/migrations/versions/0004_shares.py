"""read-only links to single runs."""

import sqlalchemy as sa
from alembic import op

import finery.core.db

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "share",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("job_id", sa.Integer(), sa.ForeignKey("job.id"), nullable=False),
        sa.Column("sha256", sa.String(), nullable=False),
        sa.Column("created_at", finery.core.db.UtcDateTime(timezone=True), nullable=False),
        sa.Column("expires_at", finery.core.db.UtcDateTime(timezone=True), nullable=False),
        sa.UniqueConstraint("sha256"),
    )
    op.create_index("ix_share_job_id", "share", ["job_id"])


def downgrade() -> None:
    op.drop_table("share")
