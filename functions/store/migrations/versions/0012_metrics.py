"""Indexes of the metrics: jobs by their end, and rejected events by time."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Go forward."""
    where = sa.text("finished_at IS NOT NULL")
    op.create_index("job_ended", "job", ["finished_at"], sqlite_where=where, postgresql_where=where)
    op.create_index("rejected_event_newest", "rejected_event", ["at"])


def downgrade() -> None:
    """Go back."""
    op.drop_index("rejected_event_newest", "rejected_event")
    op.drop_index("job_ended", "job")
