"""Who made each change of a job."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Go forward."""
    op.add_column("job_event", sa.Column("actor", sa.String(), nullable=True))


def downgrade() -> None:
    """Go back."""
    op.drop_column("job_event", "actor")
