"""Rewrite the partial index of open jobs so that the planner does not pick it for pages of a single state."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_OPEN = sa.text("finished_at IS NULL")
_NOT_FINAL = sa.text("state NOT IN ('CANCELLED', 'FAILED', 'SUCCEEDED')")


def upgrade() -> None:
    """Go forward."""
    op.drop_index("job_open", "job")
    op.create_index("job_open", "job", ["created_at", "id"], sqlite_where=_OPEN, postgresql_where=_OPEN)


def downgrade() -> None:
    """Go back."""
    op.drop_index("job_open", "job")
    op.create_index("job_open", "job", ["created_at"], sqlite_where=_NOT_FINAL, postgresql_where=_NOT_FINAL)
