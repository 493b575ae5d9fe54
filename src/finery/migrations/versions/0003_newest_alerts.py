"""newest alerts over all jobs."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_ALERTS = sa.text("type = 'alert'")


def upgrade() -> None:
    op.create_index("ix_event_alert", "event", ["id"], sqlite_where=_ALERTS, postgresql_where=_ALERTS)


def downgrade() -> None:
    op.drop_index("ix_event_alert", "event")
