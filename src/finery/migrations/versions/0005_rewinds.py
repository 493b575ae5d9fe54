"""the checkpoint that a job was asked to go on from, and its live settings."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("job", sa.Column("rewind_to", sa.Integer(), nullable=True))
    op.add_column("job", sa.Column("controls", sa.JSON(), nullable=True))


def downgrade() -> None:
    op.drop_column("job", "controls")
    op.drop_column("job", "rewind_to")
