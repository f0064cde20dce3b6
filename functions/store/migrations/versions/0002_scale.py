"""Indexes for each filter of a page and for retention; free space in pages for heartbeats."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_UNARCHIVED = sa.text("finished_at IS NOT NULL AND archive_key IS NULL")
_SENT = sa.text("sent_at IS NOT NULL")
#: by default a fifth of a table must be dead before it is vacuumed: of a million jobs, far more than are open
_VACUUM = "autovacuum_vacuum_scale_factor = 0.02"


def upgrade() -> None:
    """Go forward."""
    op.add_column("job", sa.Column("archive_key", sa.String(), nullable=True))
    op.create_index("job_by_state", "job", ["state", "created_at", "id"])
    op.create_index("job_by_framework", "job", ["framework", "created_at", "id"])
    op.create_index("job_by_dataset", "job", ["dataset_id", "created_at", "id"])
    op.drop_index("ix_job_dataset_id", "job")
    op.create_index(
        "job_unarchived", "job", ["finished_at", "id"], sqlite_where=_UNARCHIVED, postgresql_where=_UNARCHIVED
    )
    op.create_index("outbox_sent", "outbox", ["sent_at"], sqlite_where=_SENT, postgresql_where=_SENT)
    if op.get_bind().dialect.name == "postgresql":
        op.execute(f"ALTER TABLE job SET (fillfactor = 80, {_VACUUM})")
        op.execute(f"ALTER TABLE job_event SET ({_VACUUM})")
        op.execute(f"ALTER TABLE outbox SET ({_VACUUM})")


def downgrade() -> None:
    """Go back."""
    if op.get_bind().dialect.name == "postgresql":
        for table in ("job", "job_event", "outbox"):
            op.execute(f"ALTER TABLE {table} RESET (fillfactor, autovacuum_vacuum_scale_factor)")
    op.drop_index("outbox_sent", "outbox")
    op.drop_index("job_unarchived", "job")
    op.create_index("ix_job_dataset_id", "job", ["dataset_id"])
    for index in ("job_by_dataset", "job_by_framework", "job_by_state"):
        op.drop_index(index, "job")
    with op.batch_alter_table("job") as batch_op:
        batch_op.drop_column("archive_key")
