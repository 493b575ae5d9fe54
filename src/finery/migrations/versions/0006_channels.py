"""channels, and what is delivered through them."""

import sqlalchemy as sa
from alembic import op

import finery.core.db

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_MOMENT = finery.core.db.UtcDateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "channel",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("params", sa.JSON(), nullable=False),
        sa.Column("events", sa.JSON(), nullable=False),
        sa.Column("language", sa.String(), nullable=False),
        sa.Column("is_enabled", sa.Boolean(), nullable=False),
        sa.Column("created_at", _MOMENT, nullable=False),
        sa.UniqueConstraint("name"),
    )
    op.create_table(
        "delivery",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("channel", sa.String(), nullable=False),
        sa.Column("job_id", sa.Integer(), sa.ForeignKey("job.id"), nullable=True),
        sa.Column("run", sa.String(), nullable=False),
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("notice", sa.JSON(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("message", sa.String(), nullable=True),
        sa.Column("planned_at", _MOMENT, nullable=True),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("error", sa.String(), nullable=False),
        sa.Column("created_at", _MOMENT, nullable=False),
        sa.Column("next_at", _MOMENT, nullable=False),
        sa.Column("claimed_by", sa.String(), nullable=True),
        sa.Column("ended_at", _MOMENT, nullable=True),
        sa.UniqueConstraint("channel", "run", "key"),
    )
    op.create_index("ix_delivery_job_id", "delivery", ["job_id"])
    op.create_index("ix_delivery_message", "delivery", ["message"])
    op.create_index("ix_delivery_state_next_at", "delivery", ["state", "next_at"])
    op.create_index("ix_delivery_channel_planned_at", "delivery", ["channel", "planned_at"])


def downgrade() -> None:
    op.drop_table("delivery")
    op.drop_table("channel")
