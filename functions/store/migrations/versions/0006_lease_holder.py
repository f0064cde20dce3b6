"""The holder of the sweep lease."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Go forward."""
    op.add_column("sweep_turn", sa.Column("holder", sa.String(), nullable=True))


def downgrade() -> None:
    """Go back."""
    with op.batch_alter_table("sweep_turn") as batch_op:
        batch_op.drop_column("holder")
