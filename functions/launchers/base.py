"""The interface of a launcher, and what launchers report."""

import signal
from enum import StrEnum
from typing import NamedTuple, Protocol

from functions.domain.states import Reason
from functions.runtime.settings import Trainer, settings, trainers
from functions.store.tables import Job

#: characters of a status's message
MESSAGE_LENGTH = 500


class Phase(StrEnum):
    """Where a trainer is, as its launcher sees it."""

    ABSENT = "absent"  #: the launcher knows nothing of it
    HELD = "held"  #: accepted in full; its turn is somebody else's to give, and asking again changes nothing
    WAITING = "waiting"  #: accepted; to be submitted until it runs
    RUNNING = "running"  #: a process or pod is there
    ENDED = "ended"  #: it was there, and is gone


class Status(NamedTuple):
    """A trainer's phase, why in words, and a reason: what its end proves, or what its waiting is to blame on."""

    phase: Phase
    message: str | None = None
    reason: Reason | None = None
    #: what the trainer runs, by digest
    image: str | None = None

    @property
    def is_waiting(self) -> bool:
        """Whether it is accepted, and not started yet."""
        return self.phase in {Phase.HELD, Phase.WAITING}


def message_of_exit(code: int, printed: str) -> str:
    """Say how a trainer ended that did not send done, with the last line of what it printed: mostly, the error."""
    said = f"the trainer exited with code {code} and did not send done"
    if code < 0:
        said = f"the trainer was killed by signal {-code} ({signal.strsignal(-code)})"
    # A progress bar is drawn with characters that no store takes and no terminal should get.
    lines = ["".join(filter(str.isprintable, line)).strip() for line in printed.splitlines()]
    last = next(filter(None, reversed(lines)), None)
    return f"{said}; it last printed: {last}"[:MESSAGE_LENGTH] if last else said


class LaunchRejectedError(Exception):
    """The launcher can never start this job; the message says what to change."""


class LauncherAwayError(OSError):
    """The launcher cannot be reached, or does not answer in time: whatever else it is to do fails in the same way."""


class Launcher(Protocol):
    """Five calls, each safe to repeat; each raises OSError when it cannot be done now."""

    def submit(self, job: Job, environment: dict[str, str]) -> Status:
        """Start this launch of the job, or let it wait. Raises LaunchRejectedError."""

    def renew(self, job: Job, credentials: dict[str, str]) -> None:
        """Replace the credentials that a trainer of this launch gets when it starts later, as after a disruption."""

    def stop(self, job_id: str) -> None:
        """Ask the trainer to end (SIGTERM), and see to it that it is gone after the grace."""

    def inspect(self, job: Job) -> Status:
        """Say how this launch of the job stands."""

    def list(self) -> set[str]:
        """Return the ids of all jobs with a trainer alive or waiting; a later ``inspect`` may use the same snapshot."""


def trainer_of(job: Job) -> Trainer:
    """Return how a job's framework is started.

    Raises:
        LaunchRejectedError: it is not registered any more.
    """
    trainer = trainers().get(job.framework)
    if trainer is None:
        known = ", ".join(sorted(trainers()))
        raise LaunchRejectedError(f"the framework {job.framework} is not registered any more; TRAINERS has {known}")
    return trainer


def seconds(job: Job, name: str) -> float:
    """Return one of a job's clocks, such as ``longest_running_seconds``: its own, else the configured one."""
    return float(job.spec.get(name) or getattr(settings(), name))
