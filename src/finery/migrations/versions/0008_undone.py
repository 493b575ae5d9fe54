"""which action of a rule a wish takes back."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("control_request", sa.Column("undoes", sa.Integer(), nullable=True))


def downgrade() -> None:
    op.drop_column("control_request", "undoes")
