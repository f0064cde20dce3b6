"""The job's state machine and the reasons for failure, each as one table.

A job only moves forward; a final state never changes. To add a state, add a line to ``NEXT`` and one
to the README's diagram; the SQL guards, the table's CHECKs and the tests are derived from it.
"""

from collections.abc import Mapping
from enum import StrEnum


class State(StrEnum):
    """The state of a job."""

    PENDING = "PENDING"  #: the row exists; create-job or sweep submits it
    QUEUED = "QUEUED"  #: submitted to the launcher; waits for a slot, a node, an image or quota
    RUNNING = "RUNNING"  #: a trainer has claimed it
    SUCCEEDED = "SUCCEEDED"  #: final: reported by the trainer
    FAILED = "FAILED"  #: final: reported by the trainer, or observed by the launcher
    CANCELLED = "CANCELLED"  #: final: on request

    @classmethod
    def _missing_(cls, value: object) -> "State | None":
        return cls.__members__.get(str(value).upper())


#: no trainer has claimed the job yet
WAITING = frozenset({State.PENDING, State.QUEUED})
FINAL = frozenset({State.SUCCEEDED, State.FAILED, State.CANCELLED})

NEXT: Mapping[State, frozenset[State]] = {
    State.PENDING: FINAL | {State.QUEUED, State.RUNNING},
    State.QUEUED: FINAL | {State.RUNNING},
    State.RUNNING: FINAL,
    State.SUCCEEDED: frozenset(),
    State.FAILED: frozenset(),
    State.CANCELLED: frozenset(),
}

#: The same table read backwards: the states that a move to ``to`` may start from.
BEFORE: Mapping[State, frozenset[State]] = {
    to: frozenset(state for state, following in NEXT.items() if to in following) for to in State
}


class Retry(StrEnum):
    """Whether launching a failed job again can help."""

    NEVER = "never"  #: the same input fails in the same way
    AS_IS = "as_is"  #: the job was not at fault: another attempt resumes from its checkpoint
    CHANGED = "changed"  #: only with other limits or resources


class Reason(StrEnum):
    """Why a job FAILED."""

    OOM_HOST = "oom_host"
    OOM_GPU = "oom_gpu"
    EVICTED = "evicted"
    PREEMPTED = "preempted"
    IMAGE_PULL = "image_pull"
    UNSCHEDULABLE = "unschedulable"
    NODE_LOST = "node_lost"
    DEADLINE_PENDING = "deadline_pending"
    DEADLINE_RUNNING = "deadline_running"
    STALLED = "stalled"
    DATASET_INVALID = "dataset_invalid"
    CONFIG_INVALID = "config_invalid"
    STORAGE_ERROR = "storage_error"
    TRAINER_ERROR = "trainer_error"
    LOST = "lost"
    LAUNCH_REJECTED = "launch_rejected"


RETRY: Mapping[Reason, Retry] = {
    Reason.OOM_HOST: Retry.CHANGED,
    Reason.OOM_GPU: Retry.CHANGED,
    Reason.EVICTED: Retry.AS_IS,
    Reason.PREEMPTED: Retry.AS_IS,
    Reason.IMAGE_PULL: Retry.CHANGED,
    Reason.UNSCHEDULABLE: Retry.CHANGED,
    Reason.NODE_LOST: Retry.AS_IS,
    Reason.DEADLINE_PENDING: Retry.CHANGED,
    Reason.DEADLINE_RUNNING: Retry.CHANGED,
    Reason.STALLED: Retry.CHANGED,
    Reason.DATASET_INVALID: Retry.NEVER,
    Reason.CONFIG_INVALID: Retry.NEVER,
    Reason.STORAGE_ERROR: Retry.AS_IS,
    Reason.TRAINER_ERROR: Retry.NEVER,
    Reason.LOST: Retry.AS_IS,
    Reason.LAUNCH_REJECTED: Retry.NEVER,
}


#: shells report death by a signal as 128 + the signal's number
_KILLED_BY_SIGNAL = 128


def reason_of_exit(code: int) -> Reason:
    """Return the reason for a trainer's exit code; ``code`` is negative for a signal (sysexits.h)."""
    if code < 0 or code > _KILLED_BY_SIGNAL:
        return Reason.LOST
    return {65: Reason.DATASET_INVALID, 74: Reason.STORAGE_ERROR, 78: Reason.CONFIG_INVALID}.get(
        code, Reason.TRAINER_ERROR
    )
