"""The tables. Nothing else here: what happens to them is in ``store``."""

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
    """Aware UTC, also on SQLite, which knows no time zones."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Return what is written."""
        del dialect
        return value.astimezone(UTC) if value else None

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Return what was read."""
        del dialect
        return value.replace(tzinfo=UTC) if value and value.tzinfo is None else value


def _moment(*, nullable: bool = True) -> Any:
    return Field(default=None, sa_column=Column(Moment, nullable=nullable))


def _json(*, nullable: bool = False) -> Any:
    return Field(default=None, sa_column=Column(JSON(none_as_null=True), nullable=nullable))


def _serial() -> Any:
    # SQLite numbers rows itself only where the type is INTEGER, which is 64 bits wide there.
    return Field(default=None, sa_column=Column(BigInteger().with_variant(Integer, "sqlite"), primary_key=True))


def _one_of(values: frozenset[str]) -> str:
    return ", ".join(f"'{value}'" for value in sorted(values))


def _where(condition: str) -> dict[str, Any]:
    return {"sqlite_where": text(condition), "postgresql_where": text(condition)}


#: Of jobs that have not ended. In words, not parameters: a partial index serves only a query that says the same.
#: Not by state, or PostgreSQL may read a page of RUNNING jobs from the index of all open ones, past all that wait.
IS_OPEN = "finished_at IS NULL"
IS_ARCHIVABLE = "finished_at IS NOT NULL AND archive_key IS NULL"


class Job(SQLModel, table=True):
    """One row a job: the present."""

    __table_args__ = (
        CheckConstraint(f"state IN ({_one_of(frozenset(State))})", name="job_state_known"),
        CheckConstraint(f"(finished_at IS NOT NULL) = (state IN ({_one_of(FINAL)}))", name="job_finished_at_iff_final"),
        CheckConstraint("(reason IS NOT NULL) = (state = 'FAILED')", name="job_reason_iff_failed"),
        CheckConstraint(f"reason IN ({_one_of(frozenset(Reason))})", name="job_reason_known"),
        UniqueConstraint("identity", name="job_identity_once"),
        # A page of jobs, by each filter: it reads as many rows as it shows, also where few jobs are so.
        Index("job_newest", "created_at", "id"),
        Index("job_by_state", "state", "created_at", "id"),
        Index("job_by_framework", "framework", "created_at", "id"),
        Index("job_by_dataset", "dataset_id", "created_at", "id"),
        # What sweep reads: it stays as small as the work at hand, however many jobs have ended.
        Index("job_open", "created_at", "id", **_where(IS_OPEN)),
        Index("job_unarchived", "finished_at", "id", **_where(IS_ARCHIVABLE)),
        # Room in each page for a row's next version: a heartbeat then touches no index.
        {"postgresql_with": {"fillfactor": 80}},
    )

    id: str = Field(primary_key=True)
    #: what makes two requests the same job, as a digest; ``identities`` makes it
    identity: str | None = None
    state: str = State.PENDING
    reason: str | None = None
    #: why it waits, or how it ended, in words
    message: str | None = None
    #: ``live``, ``silent`` or ``waiting`` (for its next trainer, after a disruption); only while RUNNING
    liveness: str | None = None

    framework: str
    task: str
    dataset_id: str
    #: the dataset's object, where its name is not in the normal form of Unicode that dataset_id has
    dataset_key: str | None = None
    #: the version of the dataset that it was made for, without quotes; None where that is not known
    dataset_etag: str | None = None
    model_name: str
    #: the trainer's image, by digest where that is known; None where the trainer is a process of a command
    image: str | None = None
    spec: dict[str, Any] = _json()
    trace_id: str

    attempt: int = 0
    attempt_limit: int
    #: which start this is, counted from 1; sweep raises it when another attempt is worth it
    launch: int = 1
    #: how many outbox rows this job has written
    sequence: int = 0

    epoch: int | None = None
    epochs: int | None = None
    step: int | None = Field(default=None, sa_type=BigInteger)
    eta_seconds: float | None = None
    metrics: dict[str, float] = _json()
    artifacts: list[str] = _json()

    created_at: datetime = _moment(nullable=False)
    #: when this launch was last handed to the launcher
    submitted_at: datetime | None = _moment()
    #: of the token that a trainer of this launch finds when it starts: the ``kid`` that signed it, and its expiry
    token_key: str | None = None
    token_expires_at: datetime | None = _moment()
    queued_at: datetime | None = _moment()
    started_at: datetime | None = _moment()
    #: since when a RUNNING job waits for its next trainer; None while it runs
    waiting_since: datetime | None = _moment()
    #: the clock of ``longest_running_seconds``: how long it ran before it last waited, and since when it runs
    ran_seconds: float | None = None
    running_since: datetime | None = _moment()
    finished_at: datetime | None = _moment()
    heartbeat_at: datetime | None = _moment()
    #: when the epoch or step last moved
    progress_at: datetime | None = _moment()

    #: the object that its events went to, once retention has moved them out of the store
    archive_key: str | None = None


class JobEvent(SQLModel, table=True):
    """Append-only: timeline, callbacks and metrics."""

    __tablename__ = "job_event"
    __table_args__ = (
        # Of one job: a trainer chooses these two, and must not be able to use up another job's.
        UniqueConstraint("job_id", "ce_source", "ce_id", name="job_event_once"),
        Index("job_event_timeline", "job_id", "id"),
    )

    id: int | None = _serial()
    job_id: str = Field(foreign_key="job.id")
    #: ``state`` (a move), ``event`` or ``heartbeat`` (a trainer's word)
    kind: str
    type: str
    attempt: int
    epoch: int | None = None
    step: int | None = Field(default=None, sa_type=BigInteger)
    metrics: dict[str, float] | None = _json(nullable=True)
    message: str | None = None
    data: dict[str, Any] | None = _json(nullable=True)
    ce_source: str | None = None
    ce_id: str | None = None
    at: datetime = _moment(nullable=False)


class Outbox(SQLModel, table=True):
    """What the world is still to be told: one row a move, written with it."""

    __table_args__ = (
        UniqueConstraint("job_id", "sequence", name="outbox_in_order"),
        Index("outbox_unsent", "id", **_where("sent_at IS NULL")),
        Index("outbox_sent", "sent_at", **_where("sent_at IS NOT NULL")),
    )

    id: int | None = _serial()
    job_id: str = Field(foreign_key="job.id")
    sequence: int
    type: str
    data: dict[str, Any] = _json()
    trace_id: str
    created_at: datetime = _moment(nullable=False)
    sent_at: datetime | None = _moment()


class RejectedEvent(SQLModel, table=True):
    """A delivery that can never become a job, and why."""

    __tablename__ = "rejected_event"

    id: int | None = _serial()
    #: a digest, so that a delivery repeated for ever is one row
    identity: str = Field(unique=True)
    reason: str
    body: str
    at: datetime = _moment(nullable=False)


class SweepTurn(SQLModel, table=True):
    """One row: the lease to sweep, and since when the control plane has been awake."""

    __tablename__ = "sweep_turn"

    id: int = Field(default=1, primary_key=True)
    #: by the database's clock
    taken_until: datetime = _moment(nullable=False)
    holder: str | None = None
    swept_at: datetime = _moment(nullable=False)
    awake_at: datetime = _moment(nullable=False)
