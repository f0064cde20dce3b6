"""Uploads whose metadata says that they make no job."""

import sqlalchemy as sa
from alembic import op

from functions.store.tables import Moment

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Go forward."""
    op.create_table(
        "ignored_upload",
        sa.Column("identity", sa.String(), nullable=False),
        sa.Column("at", Moment, nullable=False),
        sa.PrimaryKeyConstraint("identity"),
    )
    op.create_index("ignored_upload_oldest", "ignored_upload", ["at"])


def downgrade() -> None:
    """Go back."""
    op.drop_table("ignored_upload")
