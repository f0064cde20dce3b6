"""The hot path: a heartbeat is one insert and one conditional update, written as SQL for the driver.

On PostgreSQL it is one statement, which the event loop waits for: handing each request to a thread and back took as
much processor time as the statement. ``tests/integration/test_store.py`` and the model test compare it with ``store``.
"""

import json
import re
from datetime import UTC, datetime
from functools import cache, partial
from typing import Annotated, Any

import msgspec
from anyio import to_thread
from msgspec import Meta

from functions.domain.callbacks import Callback
from functions.domain.states import State
from functions.store import callbacks
from functions.store.session import is_sqlite, sqlite_statements, statement

#: of a job's metrics as JSON: a heartbeat after that replaces them, so that new names cannot fill the row without end
_LIMIT_CHARACTERS = 64 * 1024
_KNOWN = f"CASE WHEN length(CAST(metrics AS TEXT)) > {_LIMIT_CHARACTERS} THEN '{{}}' ELSE metrics END"
_MERGED = f"json_patch({_KNOWN}, :metrics)"
_MERGED_AT_ONCE = f"CAST(CAST({_KNOWN} AS JSONB) || CAST(:metrics AS JSONB) AS JSON)"
_IS_CURRENT = "attempt = coalesce(:attempt, attempt) AND launch <= coalesce(:launch, launch)"
_OF_JOB = f"id = :job_id AND state = 'RUNNING' AND {_IS_CURRENT}"
_SET = """
    heartbeat_at = :at,
    liveness = 'live',
    message = CASE WHEN waiting_since IS NULL THEN message END,
    running_since = CASE WHEN waiting_since IS NULL THEN running_since ELSE :at END,
    waiting_since = NULL,
    progress_at = CASE
        WHEN coalesce(:epoch, -1) > coalesce(epoch, -1) OR coalesce(:step, -1) > coalesce(step, -1) THEN :at
        ELSE progress_at END,
    epoch = CASE WHEN coalesce(:epoch, -1) > coalesce(epoch, -1) THEN :epoch ELSE epoch END,
    step = CASE WHEN coalesce(:step, -1) > coalesce(step, -1) THEN :step ELSE step END,
    epochs = coalesce(:epochs, epochs),
    eta_seconds = coalesce(:eta_seconds, eta_seconds),
    metrics = coalesce({merged}, metrics)
"""
# ruff: disable[S608] -- only our own constants
_COLUMNS = "job_id, kind, type, attempt, epoch, step, metrics, ce_source, ce_id, at"
_VALUES = ":job_id, 'heartbeat', 'heartbeat', attempt, :epoch, :step, :metrics, :ce_source, :ce_id, :at"
_ONCE = "ON CONFLICT (job_id, ce_source, ce_id) DO NOTHING"

# A repeated call changes nothing: the update applies only if its event was inserted.
_IS_THERE = f"SELECT 1 FROM job WHERE {_OF_JOB}"
_INSERT = f"INSERT INTO job_event ({_COLUMNS}) SELECT {_VALUES} FROM job WHERE {_OF_JOB} {_ONCE}"
_UPDATE = f"UPDATE job SET {_SET.format(merged=_MERGED)} WHERE {_OF_JOB}"

# The same in one round trip, and so in its own transaction; the row is locked first, since a move may be in progress.
_AT_ONCE = f"""
WITH beating AS (SELECT attempt FROM job WHERE {_OF_JOB} FOR NO KEY UPDATE),
recorded AS (INSERT INTO job_event ({_COLUMNS}) SELECT {_VALUES} FROM beating {_ONCE} RETURNING attempt),
beaten AS (
    UPDATE job SET {_SET.format(merged=_MERGED_AT_ONCE)} WHERE id = :job_id AND EXISTS (SELECT FROM recorded)
)
SELECT 1 FROM beating
"""
# ruff: enable[S608]


class Heartbeat(msgspec.Struct, forbid_unknown_fields=True):
    """A heartbeat's body. JSON has no NaN: trainers omit such metrics.

    Metrics are merged by name into the job's latest; the names of system metrics start with ``system/``.
    """

    epoch: Annotated[int, Meta(ge=0, le=100_000)] | None = None
    epochs: Annotated[int, Meta(ge=1, le=100_000)] | None = None
    step: Annotated[int, Meta(ge=0, le=2**53)] | None = None
    metrics: Annotated[dict[Annotated[str, Meta(max_length=200)], float], Meta(max_length=500)] | None = None
    eta_seconds: Annotated[float, Meta(ge=0, le=1e9)] | None = None
    attempt: Annotated[int, Meta(ge=0, le=1_000_000)] | None = None


async def record(call: Callback, beat: Heartbeat, *, now: datetime) -> State:
    """Record a heartbeat, and update the job; progress never decreases within an attempt.

    Raises:
        NotFound, WrongState, Unusable, Busy: as ``store.record_event``.
    """
    values = _values(call, beat, now=now)
    if await _beat(values):
        return State.RUNNING
    job = await to_thread.run_sync(partial(callbacks.begin, call, now=now))
    if job is not None and job.checking:  # a check has no progress: its heartbeat is only a sign of life
        return State(job.state)
    if job is not None:
        await _beat(values)
    return State.RUNNING


def _values(call: Callback, beat: Heartbeat, *, now: datetime) -> dict[str, Any]:
    return {
        "job_id": call.job_id,
        "attempt": call.attempt,
        "launch": call.launch,
        "epoch": beat.epoch,
        "epochs": beat.epochs,
        "step": beat.step,
        "eta_seconds": beat.eta_seconds,
        "metrics": json.dumps(beat.metrics) if beat.metrics else None,
        "ce_source": call.delivery.source,
        "ce_id": call.delivery.id,
        "at": now,
    }


async def _beat(values: dict[str, Any]) -> bool:
    """Record a heartbeat; return False, and change nothing, unless the job is RUNNING and the caller is current."""
    if is_sqlite():
        return await to_thread.run_sync(_beat_in_sqlite, values)
    async with statement() as connection:
        rows = await connection.execute(_psycopg(_AT_ONCE), values)
        return await rows.fetchone() is not None


def _beat_in_sqlite(values: dict[str, Any]) -> bool:
    # As SQLAlchemy writes it, so that both compare alike.
    values = values | {"at": values["at"].astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")}
    with sqlite_statements() as connection:
        is_there = connection.execute(_IS_THERE, values).fetchone() is not None
        if is_there and connection.execute(_INSERT, values).rowcount:
            connection.execute(_UPDATE, values)
        return is_there


@cache
def _psycopg(statement: str) -> str:
    return re.sub(r":(\w+)", r"%(\1)s", statement)
