"""what jobs were estimated to take, and what they took."""

import sqlalchemy as sa
from alembic import op

import finery.core.db

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "job_estimate",
        sa.Column("job_id", sa.Integer(), sa.ForeignKey("job.id"), primary_key=True),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("device", sa.String(), nullable=False),
        sa.Column("engine", sa.String(), nullable=False),
        sa.Column("algorithm", sa.String(), nullable=False),
        sa.Column("num_devices", sa.Integer(), nullable=False),
        sa.Column("usable_bytes", sa.BigInteger(), nullable=False),
        sa.Column("predicted_bytes", sa.BigInteger(), nullable=True),
        sa.Column("measured_bytes", sa.BigInteger(), nullable=True),
        sa.Column("predicted_speed", sa.Double(), nullable=True),
        sa.Column("measured_speed", sa.Double(), nullable=True),
        sa.Column("outcome", sa.String(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("ended_at", finery.core.db.UtcDateTime(timezone=True), nullable=False),
    )
    op.create_index("ix_job_estimate_device", "job_estimate", ["device"])


def downgrade() -> None:
    op.drop_table("job_estimate")
