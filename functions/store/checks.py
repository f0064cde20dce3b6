"""The check of a dataset before the launch of a training: a launch of its own, without GPUs.

While ``Job.checking``, the job is PENDING or QUEUED: it becomes RUNNING only with a trainer of its own task. A check
that fails ends the job as any trainer does; one that succeeds begins the next launch.
"""

from datetime import datetime

from sqlalchemy import update
from sqlalchemy.exc import IntegrityError
from sqlmodel import col

from functions.domain.callbacks import Callback
from functions.store.callbacks import is_current
from functions.store.session import write
from functions.store.tables import Job
from functions.store.transitions import add_event, log_change, next_launch


def succeed(call: Callback, *, metrics: dict[str, float] | None, now: datetime) -> Job | None:
    """Begin the launch of a job's own task, because its check reports that the dataset can be used.

    Tokens of the check's launch are refused from now on. Returns None, and changes nothing, unless the call is of the
    job's current check.
    """
    values = {"checking": False, "check_launches": Job.launch, "check_attempts": Job.attempt, "message": None}
    try:
        with write() as session:
            job: Job | None = session.scalar(
                update(Job)
                .where(col(Job.id) == call.job_id, col(Job.checking), is_current(call))
                .values(**values, **next_launch(now))
                .returning(Job)
            )
            if job is not None:
                add_event(session, job, "check_passed", None, metrics=metrics, delivery=call.delivery, now=now)
                log_change(session, job, "the dataset can be used")
            return job
    except IntegrityError:  # the call was processed before
        return None
