"""Deleted jobs whose trainers may still store something."""

import sqlalchemy as sa
from alembic import op

from functions.store.tables import Moment

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Go forward."""
    op.create_table(
        "deleted_job",
        sa.Column("job_id", sa.String(), nullable=False),
        sa.Column("at", Moment, nullable=False),
        sa.PrimaryKeyConstraint("job_id"),
    )
    op.create_index("deleted_job_oldest", "deleted_job", ["at"])


def downgrade() -> None:
    """Go back; what trainers store after their job's deletion stays."""
    op.drop_table("deleted_job")
