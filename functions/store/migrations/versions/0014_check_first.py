"""Check a dataset before the launch of a training."""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Go forward."""
    op.add_column("job", sa.Column("checking", sa.Boolean(), nullable=False, server_default=sa.text("false")))
    for column in ("check_launches", "check_attempts"):
        op.add_column("job", sa.Column(column, sa.Integer(), nullable=False, server_default=sa.text("0")))


def downgrade() -> None:
    """Go back."""
    for column in ("check_attempts", "check_launches", "checking"):
        op.drop_column("job", column)
