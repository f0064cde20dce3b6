"""Count how often the links to a job were revoked."""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Go forward."""
    op.add_column("job", sa.Column("link_revocations", sa.Integer(), nullable=False, server_default=sa.text("0")))


def downgrade() -> None:
    """Go back; links that were revoked open again until they expire."""
    op.drop_column("job", "link_revocations")
