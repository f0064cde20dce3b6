"""The key and expiry of a launch's stored token, so that sweep renews it in time."""

import sqlalchemy as sa
from alembic import op

from functions.store.tables import Moment

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Go forward."""
    op.add_column("job", sa.Column("token_key", sa.String))
    op.add_column("job", sa.Column("token_expires_at", Moment))


def downgrade() -> None:
    """Go back."""
    op.drop_column("job", "token_expires_at")
    op.drop_column("job", "token_key")
