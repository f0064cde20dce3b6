"""Statements that change jobs: one public function per rule of the contract, one transaction each.

Every function takes the current time as ``now`` (aware UTC), so that tests control the clock, and works on SQLite and
PostgreSQL alike. ``callbacks`` has the statements of trainers, ``queries`` those that read, ``upkeep`` those of sweep.

A transaction writes first, and reads only if the write matched no row. This avoids upgrading locks on SQLite, and
acting on stale rows on PostgreSQL.
"""

import secrets
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import delete, update
from sqlalchemy.exc import IntegrityError
from sqlmodel import Session, col, select

from functions.domain import descriptions
from functions.domain.errors import NotFound, WrongState
from functions.domain.spec import UNKNOWN, Origin, Spec, as_json
from functions.domain.states import FINAL, Reason, State
from functions.store.session import read, write
from functions.store.tables import DeletedJob, IgnoredUpload, Job, JobEvent, JobTag
from functions.store.transitions import (
    Condition,
    add_event,
    add_outbox_row,
    add_state_rows,
    change_state,
    log_change,
    refusal,
)

#: after this time since a job's end, no trainer of it stores anything
_MAY_STORE = timedelta(days=1)


def create(  # noqa: PLR0913 -- the columns of a new job
    spec: Spec,
    *,
    identity: str | None,
    trace_id: str,
    now: datetime,
    dataset_etag: str | None = None,
    dataset_key: str | None = None,
    origin: Origin = UNKNOWN,
    job_id: str | None = None,
    checking: bool = False,
    check_skipped: str | None = None,
) -> tuple[Job, bool]:
    """Create a PENDING job, or return the existing job with this identity; the flag says whether the job is new.

    ``dataset_key`` is the key of the dataset's object, if it is not exactly ``datasets/{dataset_id}.zip``. With
    ``checking``, the first launch only checks the dataset; ``check_skipped`` is why it does not.

    Raises:
        IntegrityError: the job has no identity, and its random id exists already.
    """
    job = Job(
        id=job_id or new_id(now),
        identity=identity,
        name=spec.name,
        name_key=descriptions.search_key(spec.name) if spec.name else None,
        tags=spec.tags,
        notes=spec.notes,
        **origin._asdict(),
        framework=spec.framework,
        task=spec.task,
        dataset_id=spec.dataset_id,
        dataset_etag=dataset_etag,
        dataset_key=dataset_key,
        model_name=spec.model_name,
        spec=as_json(spec),
        trace_id=trace_id,
        attempt_limit=spec.attempt_limit,
        epochs=spec.epochs,
        metrics={},
        artifacts=[],
        created_at=now,
        sequence=1,
        checking=checking,
    )
    try:
        with write() as session:
            session.add(job)
            session.flush()
            _add_tags(session, job)
            add_state_rows(session, job, now=now)
            if check_skipped is not None:
                add_event(session, job, "check_skipped", check_skipped, now=now)
            return job, True
    except IntegrityError:
        if identity is None:
            raise
        with read() as session:
            existing = session.exec(select(Job).where(Job.identity == identity)).first()
        if existing is None:
            raise
        return existing, False


def new_id(now: datetime) -> str:
    """Return a new job's id. It begins with the time, so that recent jobs are close together in the indexes."""
    return f"{int(now.timestamp()):08x}{secrets.token_hex(6)}"


def _add_tags(session: Session, job: Job) -> None:
    session.add_all(JobTag(job_id=job.id, tag=tag, created_at=job.created_at) for tag in job.tags or [])


def describe(job_id: str, changes: Mapping[str, Any]) -> Job:
    """Change a job's name, tags or notes, in whatever state it is.

    Raises:
        NotFound: the job does not exist.
    """
    values = dict(changes)
    if "name" in values:
        values["name_key"] = descriptions.search_key(values["name"]) if values["name"] else None
    with write() as session:
        job: Job | None = session.scalar(
            update(Job).where(col(Job.id) == job_id).values(values or {"id": job_id}).returning(Job)
        )
        if job is None:
            raise NotFound(f"there is no job {job_id}")
        if "tags" in values:
            session.execute(delete(JobTag).where(col(JobTag.job_id) == job_id))
            _add_tags(session, job)
        return job


def revoke_links(job_id: str) -> None:
    """Revoke all existing links to a job.

    Raises:
        NotFound: the job does not exist.
    """
    with write() as session:
        job: Job | None = session.scalar(
            update(Job).where(col(Job.id) == job_id).values(link_revocations=Job.link_revocations + 1).returning(Job)
        )
        if job is None:
            raise NotFound(f"there is no job {job_id}")
        log_change(session, job, "the links to the job are revoked")


def remove(job_id: str, *, now: datetime) -> None:
    """Delete an ended job with its timeline, and send an event. Its upload does not create another job.

    Raises:
        NotFound: the job does not exist.
        WrongState: the job has not ended.
    """
    with write() as session:
        job: Job | None = session.scalar(
            update(Job)
            .where(col(Job.id) == job_id, col(Job.state).in_(FINAL))
            .values(sequence=Job.sequence + 1)
            .returning(Job)
        )
        if job is None:
            refuse_open(session.get(Job, job_id), job_id)
            raise NotFound(f"there is no job {job_id}")  # it was deleted in between
        add_outbox_row(session, job, "deleted", now=now)
        if job.identity is not None:
            session.merge(IgnoredUpload(identity=job.identity, at=now))
        if job.finished_at is not None and now - job.finished_at < _MAY_STORE:
            session.add(DeletedJob(job_id=job_id, at=now))
        for table in (JobEvent, JobTag):
            session.execute(delete(table).where(col(table.job_id) == job_id))
        session.execute(delete(Job).where(col(Job.id) == job_id))
        log_change(session, job, "the job is deleted")


def refuse_open(job: Job | None, job_id: str) -> None:
    """Raise WrongState if a job has not ended; NotFound if it does not exist."""
    if job is None:
        raise NotFound(f"there is no job {job_id}")
    if job.state not in FINAL:
        raise WrongState(f"job {job_id} is {job.state}: cancel it before you delete it", state=job.state)


def move(  # noqa: PLR0913 -- the columns that a change of state writes
    job_id: str,
    to: State,
    *,
    now: datetime,
    message: str | None = None,
    reason: Reason | None = None,
    still: Condition | None = None,
) -> Job:
    """Move a job to a later state, as decided by the control plane.

    Raises:
        NotFound: the job does not exist.
        WrongState: the job cannot become ``to``, or ``still`` does not hold; ``members["state"]`` is its state.
    """
    with write() as session:
        job = change_state(session, job_id, to, now=now, values={"message": message, "reason": reason}, still=still)
        if job is None:
            raise refusal(session, job_id, to)
        return job
