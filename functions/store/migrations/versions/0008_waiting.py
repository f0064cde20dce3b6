"""Stop the running time of a job that waits for its next trainer."""

import sqlalchemy as sa
from alembic import op

from functions.store.tables import Moment

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Go forward."""
    op.add_column("job", sa.Column("waiting_since", Moment))
    op.add_column("job", sa.Column("ran_seconds", sa.Float))
    op.add_column("job", sa.Column("running_since", Moment))


def downgrade() -> None:
    """Go back."""
    for column in ("running_since", "ran_seconds", "waiting_since"):
        op.drop_column("job", column)
