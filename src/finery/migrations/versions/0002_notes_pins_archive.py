"""notes, pins and archive of jobs."""

import sqlalchemy as sa
from alembic import op

import finery.core.db

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("job", sa.Column("notes", sa.String(), server_default="", nullable=False))
    op.add_column("job", sa.Column("is_pinned", sa.Boolean(), server_default=sa.false(), nullable=False))
    op.add_column("job", sa.Column("archived_at", finery.core.db.UtcDateTime(timezone=True), nullable=True))


def downgrade() -> None:
    with op.batch_alter_table("job") as table:
        table.drop_column("archived_at")
        table.drop_column("is_pinned")
        table.drop_column("notes")
