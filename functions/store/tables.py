"""The tables. Statements on them are in the other modules of this package."""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    CheckConstraint,
    Column,
    DateTime,
    Dialect,
    Index,
    Integer,
    UniqueConstraint,
    text,
)
from sqlalchemy.types import TypeDecorator
from sqlmodel import Field, SQLModel

from functions.domain.states import FINAL, Reason, State


class Moment(TypeDecorator[datetime]):
    """An aware UTC datetime, also on SQLite, which has no time zones."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Convert a value to what the database stores."""
        del dialect
        return value.astimezone(UTC) if value else None

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Convert a stored value to an aware datetime."""
        del dialect
        return value.replace(tzinfo=UTC) if value and value.tzinfo is None else value


def _moment(*, nullable: bool = True) -> Any:
    return Field(default=None, sa_column=Column(Moment, nullable=nullable))


def _json(*, nullable: bool = False) -> Any:
    return Field(default=None, sa_column=Column(JSON(none_as_null=True), nullable=nullable))


def _added(value: str) -> dict[str, Any]:
    """Return the default that the database itself sets: functions of the release before do not know the column."""
    return {"server_default": text(value)}


def _serial() -> Any:
    # SQLite assigns row ids only to INTEGER columns, which are 64 bits wide there.
    return Field(default=None, sa_column=Column(BigInteger().with_variant(Integer, "sqlite"), primary_key=True))


def _one_of(values: frozenset[str]) -> str:
    return ", ".join(f"'{value}'" for value in sorted(values))


def _where(condition: str) -> dict[str, Any]:
    return {"sqlite_where": text(condition), "postgresql_where": text(condition)}


#: Jobs that have not ended. A literal without parameters, because a partial index serves only queries with the same
#: condition. Not by state: PostgreSQL would then read a page of RUNNING jobs from this index, past all PENDING ones.
IS_OPEN = "finished_at IS NULL"
HAS_ENDED = "finished_at IS NOT NULL"
IS_ARCHIVABLE = "finished_at IS NOT NULL AND archive_key IS NULL"


class Job(SQLModel, table=True):
    """The current state of a job; one row per job."""

    __table_args__ = (
        CheckConstraint(f"state IN ({_one_of(frozenset(State))})", name="job_state_known"),
        CheckConstraint(f"(finished_at IS NOT NULL) = (state IN ({_one_of(FINAL)}))", name="job_finished_at_iff_final"),
        CheckConstraint("(reason IS NOT NULL) = (state = 'FAILED')", name="job_reason_iff_failed"),
        CheckConstraint(f"reason IN ({_one_of(frozenset(Reason))})", name="job_reason_known"),
        UniqueConstraint("identity", name="job_identity_once"),
        # One index per filter, so that a page reads only the rows that it returns.
        Index("job_newest", "created_at", "id"),
        Index("job_by_state", "state", "created_at", "id"),
        Index("job_by_framework", "framework", "created_at", "id"),
        Index("job_by_dataset", "dataset_id", "created_at", "id"),
        Index("job_by_owner", "owner", "created_at", "id"),
        # With the name, so that a search for a part of it reads this index alone.
        Index("job_named", "created_at", "id", "name_key", **_where("name_key IS NOT NULL")),
        # For sweep. It contains only open jobs, so that its size does not depend on the number of ended ones.
        Index("job_open", "created_at", "id", **_where(IS_OPEN)),
        Index("job_unarchived", "finished_at", "id", **_where(IS_ARCHIVABLE)),
        # For the metrics.
        Index("job_ended", "finished_at", **_where(HAS_ENDED)),
        # Free space in each page for a row's next version, so that a heartbeat updates no index.
        {"postgresql_with": {"fillfactor": 80}},
    )

    id: str = Field(primary_key=True)
    #: a digest, equal for two requests for the same job; see ``identities``
    identity: str | None = None
    state: str = State.PENDING
    reason: str | None = None
    #: human-readable: why the job waits, or how it ended
    message: str | None = None
    #: ``live``, ``silent`` or ``waiting`` (for its next trainer, after a disruption); only while RUNNING
    liveness: str | None = None

    #: what people wrote about it; see ``descriptions``
    name: str | None = None
    #: the name as it is searched for
    name_key: str | None = None
    #: also in ``job_tag``, for the filter
    tags: list[str] = _json(nullable=True)
    notes: str | None = None
    #: the ``sub`` of the token that requested it
    owner: str | None = None
    #: the job whose checkpoint it continues from, and the job whose settings it has
    resumed_from: str | None = None
    cloned_from: str | None = None

    framework: str
    task: str
    dataset_id: str
    #: the key of the dataset's object, if its name is not in Unicode normal form as dataset_id is
    dataset_key: str | None = None
    #: the version of the dataset that the job trains on, without quotes; None if unknown
    dataset_etag: str | None = None
    model_name: str
    #: the trainer's image, by digest if known; None if the trainer is a local process
    image: str | None = None
    spec: dict[str, Any] = _json()
    trace_id: str

    attempt: int = 0
    attempt_limit: int
    #: number of the current launch, counted from 1; sweep increments it to launch the job again
    launch: int = 1
    #: whether the current launch only checks the dataset; the launch of the job's own task follows
    checking: bool = Field(default=False, sa_column_kwargs=_added("false"))
    #: how many launches and attempts only checked the dataset, once it can be used; the limits do not count them
    check_launches: int = Field(default=0, sa_column_kwargs=_added("0"))
    check_attempts: int = Field(default=0, sa_column_kwargs=_added("0"))
    #: number of outbox rows that this job has written
    sequence: int = 0

    epoch: int | None = None
    epochs: int | None = None
    step: int | None = Field(default=None, sa_type=BigInteger)
    eta_seconds: float | None = None
    metrics: dict[str, float] = _json()
    artifacts: list[str] = _json()

    created_at: datetime = _moment(nullable=False)
    #: when this launch was last submitted to the launcher
    submitted_at: datetime | None = _moment()
    #: the ``kid`` and the expiry of the token that is stored for the next trainer of this launch
    token_key: str | None = None
    token_expires_at: datetime | None = _moment()
    queued_at: datetime | None = _moment()
    started_at: datetime | None = _moment()
    #: when a RUNNING job began to wait for its next trainer; None while it has one
    waiting_since: datetime | None = _moment()
    #: for ``longest_running_seconds``: how long the job ran before its last wait, and since when it has been running
    ran_seconds: float | None = None
    running_since: datetime | None = _moment()
    finished_at: datetime | None = _moment()
    heartbeat_at: datetime | None = _moment()
    #: when the epoch or step last increased
    progress_at: datetime | None = _moment()

    #: how often the links to the job were revoked; a link is valid only while this is what it was when it was made
    link_revocations: int = Field(default=0, sa_column_kwargs=_added("0"))

    #: the object that retention has moved the job's events to
    archive_key: str | None = None


class JobTag(SQLModel, table=True):
    """A tag of a job, with the job's time, so that a page of a tag's jobs reads one index."""

    __tablename__ = "job_tag"
    __table_args__ = (Index("job_tag_newest", "tag", "created_at", "job_id"),)

    job_id: str = Field(foreign_key="job.id", primary_key=True)
    tag: str = Field(primary_key=True)
    created_at: datetime = _moment(nullable=False)


class JobEvent(SQLModel, table=True):
    """A job's timeline, callbacks and metrics; append-only."""

    __tablename__ = "job_event"
    __table_args__ = (
        # Unique per job, because trainers choose source and id: one must not be able to block another job's.
        UniqueConstraint("job_id", "ce_source", "ce_id", name="job_event_once"),
        Index("job_event_timeline", "job_id", "id"),
    )

    id: int | None = _serial()
    job_id: str = Field(foreign_key="job.id")
    #: ``state`` (a change of state), ``event`` or ``heartbeat``
    kind: str
    type: str
    attempt: int
    epoch: int | None = None
    step: int | None = Field(default=None, sa_type=BigInteger)
    metrics: dict[str, float] | None = _json(nullable=True)
    message: str | None = None
    #: who made this change: the ``sub`` of the request's token, ``trainer`` or ``sweep``
    actor: str | None = None
    data: dict[str, Any] | None = _json(nullable=True)
    ce_source: str | None = None
    ce_id: str | None = None
    at: datetime = _moment(nullable=False)


class Outbox(SQLModel, table=True):
    """CloudEvents to deliver: one row per change of state or deletion, written in the same transaction."""

    __table_args__ = (
        UniqueConstraint("job_id", "sequence", name="outbox_in_order"),
        Index("outbox_unsent", "id", **_where("sent_at IS NULL")),
        Index("outbox_sent", "sent_at", **_where("sent_at IS NOT NULL")),
    )

    id: int | None = _serial()
    #: without a foreign key: the event of a deletion outlives the job
    job_id: str
    sequence: int
    type: str
    data: dict[str, Any] = _json()
    trace_id: str
    created_at: datetime = _moment(nullable=False)
    sent_at: datetime | None = _moment()


class RejectedEvent(SQLModel, table=True):
    """A delivery that can never become a job, and why."""

    __tablename__ = "rejected_event"
    __table_args__ = (Index("rejected_event_newest", "at"),)

    id: int | None = _serial()
    #: a digest, so that a repeated delivery is stored once
    identity: str = Field(unique=True)
    reason: str
    body: str
    at: datetime = _moment(nullable=False)


class IgnoredUpload(SQLModel, table=True):
    """An upload that makes no job because its metadata says so; kept while sweep lists uploads of its age."""

    __tablename__ = "ignored_upload"
    __table_args__ = (Index("ignored_upload_oldest", "at"),)

    identity: str = Field(primary_key=True)
    at: datetime = _moment(nullable=False)


class DeletedJob(SQLModel, table=True):
    """A job that was deleted soon after its end: until sweep deletes what its trainer has stored since then."""

    __tablename__ = "deleted_job"
    __table_args__ = (Index("deleted_job_oldest", "at"),)

    job_id: str = Field(primary_key=True)
    at: datetime = _moment(nullable=False)


class SweepTurn(SQLModel, table=True):
    """A single row: the sweep lease, and since when the control plane has been running without a gap."""

    __tablename__ = "sweep_turn"

    id: int = Field(default=1, primary_key=True)
    #: by the database's clock
    taken_until: datetime = _moment(nullable=False)
    holder: str | None = None
    swept_at: datetime = _moment(nullable=False)
    awake_at: datetime = _moment(nullable=False)
