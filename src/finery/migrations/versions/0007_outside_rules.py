"""what rules over scores and states of a job remember."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("job", sa.Column("outside_rules", sa.JSON(), nullable=True))


def downgrade() -> None:
    op.drop_column("job", "outside_rules")
