"""Events in the outbox outlive their job, so that its deletion can be told."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

from functions.store.tables import Moment

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

_COLUMNS = "id, job_id, sequence, type, data, trace_id, created_at, sent_at"


def upgrade() -> None:
    """Go forward."""
    if op.get_bind().dialect.name == "postgresql":
        op.drop_constraint("outbox_job_id_fkey", "outbox", type_="foreignkey")
    else:
        _make_again([])


def downgrade() -> None:
    """Go back; undelivered events of deleted jobs are lost."""
    op.execute("DELETE FROM outbox WHERE job_id NOT IN (SELECT id FROM job)")
    if op.get_bind().dialect.name == "postgresql":
        op.create_foreign_key("outbox_job_id_fkey", "outbox", "job", ["job_id"], ["id"])
    else:
        _make_again([sa.ForeignKeyConstraint(["job_id"], ["job.id"])])


def _make_again(constraints: Sequence[sa.ForeignKeyConstraint]) -> None:
    """Make the table again with other constraints, since SQLite cannot change them."""
    op.create_table(
        "outbox_next",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("job_id", sa.String(), nullable=False),
        sa.Column("sequence", sa.Integer(), nullable=False),
        sa.Column("type", sa.String(), nullable=False),
        sa.Column("data", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("trace_id", sa.String(), nullable=False),
        sa.Column("created_at", Moment, nullable=False),
        sa.Column("sent_at", Moment, nullable=True),
        *constraints,
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("job_id", "sequence", name="outbox_in_order"),
    )
    op.execute(f"INSERT INTO outbox_next ({_COLUMNS}) SELECT {_COLUMNS} FROM outbox")  # noqa: S608 -- our own names
    op.drop_table("outbox")
    op.rename_table("outbox_next", "outbox")
    unsent, sent = sa.text("sent_at IS NULL"), sa.text("sent_at IS NOT NULL")
    op.create_index("outbox_unsent", "outbox", ["id"], sqlite_where=unsent)
    op.create_index("outbox_sent", "outbox", ["sent_at"], sqlite_where=sent)
