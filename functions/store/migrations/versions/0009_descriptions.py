"""A job's name, tags and notes, its owner, and the jobs that it was made from."""

import sqlalchemy as sa
from alembic import op

from functions.store.tables import Moment

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

_TEXTS = ("name", "name_key", "notes", "owner", "resumed_from", "cloned_from")
_NAMED = sa.text("name_key IS NOT NULL")


def upgrade() -> None:
    """Go forward."""
    for column in _TEXTS:
        op.add_column("job", sa.Column(column, sa.String(), nullable=True))
    # Nullable, because functions of the release before do not write it.
    op.add_column("job", sa.Column("tags", sa.JSON(none_as_null=True), nullable=True))
    op.create_index("job_by_owner", "job", ["owner", "created_at", "id"])
    op.create_index("job_named", "job", ["created_at", "id", "name_key"], sqlite_where=_NAMED, postgresql_where=_NAMED)
    op.create_table(
        "job_tag",
        sa.Column("job_id", sa.String(), nullable=False),
        sa.Column("tag", sa.String(), nullable=False),
        sa.Column("created_at", Moment, nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["job.id"]),
        sa.PrimaryKeyConstraint("job_id", "tag"),
    )
    op.create_index("job_tag_newest", "job_tag", ["tag", "created_at", "job_id"])


def downgrade() -> None:
    """Go back."""
    op.drop_table("job_tag")
    op.drop_index("job_named", "job")
    op.drop_index("job_by_owner", "job")
    for column in ("tags", *reversed(_TEXTS)):
        op.drop_column("job", column)
