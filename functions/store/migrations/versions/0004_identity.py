"""A job's dataset version and trainer image; identities as digests."""

import hashlib
import re
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

#: matches the end of an upload's identity if that is an S3 ETag rather than an object version
_ETAG = r'"([0-9a-f]{32}(-[0-9]+)?)"\]$'


def upgrade() -> None:
    """Go forward."""
    op.add_column("job", sa.Column("dataset_etag", sa.String(), nullable=True))
    op.add_column("job", sa.Column("image", sa.String(), nullable=True))
    etag, digest = f"substring(identity FROM '{_ETAG}')", "encode(sha256(convert_to(identity, 'UTF8')), 'hex')"
    if op.get_bind().dialect.name == "sqlite":
        etag, digest = "stoker_etag(identity)", "stoker_digest(identity)"
        connection: Any = op.get_bind().connection.dbapi_connection
        connection.create_function("stoker_etag", 1, _etag)
        connection.create_function("stoker_digest", 1, _digest)
    # Identities were JSON arrays; one that does not begin with a bracket is a digest already.
    # ruff: disable[S608] -- only constants of this module
    op.execute(f"UPDATE job SET dataset_etag = {etag} WHERE substr(identity, 1, 10) = '[\"upload\",'")
    for table in ("job", "rejected_event"):
        op.execute(f"UPDATE {table} SET identity = {digest} WHERE substr(identity, 1, 1) = '['")
    # ruff: enable[S608]


def downgrade() -> None:
    """Go back; identities stay digests, so that an upload that is notified once more becomes another job."""
    with op.batch_alter_table("job") as batch_op:
        batch_op.drop_column("image")
        batch_op.drop_column("dataset_etag")


def _etag(identity: str) -> str | None:
    match = re.search(_ETAG, identity)
    return match[1] if match else None


def _digest(identity: str) -> str:
    return hashlib.sha256(identity.encode()).hexdigest()
