"""The launcher interface and the status that launchers report."""

import signal
from enum import StrEnum
from typing import Any, NamedTuple, Protocol

from functions.domain.errors import ConfigurationError
from functions.domain.states import Reason
from functions.runtime.registry import Trainer, trainers
from functions.runtime.settings import settings
from functions.store.tables import Job

#: the task of a launch that only checks the dataset
CHECK = "check"
_FOR_GPUS = {"gpus", "gpu_type", "nodes", "device"}
#: maximum characters of a status message
MESSAGE_LENGTH = 500
#: in a cluster: where a trainer finds the datasets that others on its node have unpacked, and that folder of the node
DATASET_CACHE = "/var/cache/stoker"


class Phase(StrEnum):
    """The phase of a launch, as its launcher sees it."""

    ABSENT = "absent"  #: the launcher has no trainer for it
    HELD = "held"  #: submitted; waiting on an external scheduler; resubmitting has no effect
    WAITING = "waiting"  #: accepted, but must be submitted again until it runs
    RUNNING = "running"  #: its process or pod runs
    ENDED = "ended"  #: its process or pod has ended


class Status(NamedTuple):
    """A trainer's phase, a human-readable message, and the reason why it ended or waits."""

    phase: Phase
    message: str | None = None
    reason: Reason | None = None
    #: the trainer's image, by digest
    image: str | None = None

    @property
    def is_waiting(self) -> bool:
        """Whether the launch was accepted but has not started."""
        return self.phase in {Phase.HELD, Phase.WAITING}


def message_of_exit(code: int, output: str) -> str:
    """Describe the exit of a trainer that did not send done, with the last line of its output (usually the error)."""
    message = f"the trainer exited with code {code} and did not send done"
    if code < 0:
        message = f"the trainer was killed by signal {-code} ({signal.strsignal(-code)})"
    # Progress bars contain control characters, which the database rejects and a terminal would interpret.
    lines = ["".join(filter(str.isprintable, line)).strip() for line in output.splitlines()]
    last = next(filter(None, reversed(lines)), None)
    return f"{message}; it last printed: {last}"[:MESSAGE_LENGTH] if last else message


class LaunchRejectedError(Exception):
    """The launcher can never start this job, whatever the operator does; the message says what to change."""


class LauncherUnreachableError(OSError):
    """The launcher cannot be reached or timed out; other calls to it would fail in the same way."""


class Launcher(Protocol):
    """The five calls of a launcher. Each is safe to repeat, and raises OSError if it cannot be done now."""

    def submit(self, job: Job, environment: dict[str, str]) -> Status:
        """Start the job's current launch, or queue it. Raises LaunchRejectedError, ConfigurationError."""

    def renew(self, job: Job, credentials: dict[str, str]) -> None:
        """Replace the credentials of this launch, for a trainer that starts later, such as after a disruption."""

    def stop(self, job_id: str) -> None:
        """Send SIGTERM to the trainer, and SIGKILL after the grace period."""

    def inspect(self, job: Job) -> Status:
        """Return the status of the job's current launch."""

    def list(self) -> set[str]:
        """Return the ids of all jobs with a running or waiting trainer; ``inspect`` may reuse the snapshot later."""


def trainer_of(job: Job) -> Trainer:
    """Return the registered trainer of a job's framework, as the current launch needs it.

    Raises:
        ConfigurationError: the framework is no longer registered.
    """
    trainer = trainers().get(job.framework)
    if trainer is None:
        known = ", ".join(sorted(trainers()))
        raise ConfigurationError(f"TRAINERS: it has no trainer {job.framework} any more, only {known}")
    return trainer.for_check() if task_of(job) == CHECK else trainer


def task_of(job: Job) -> str:
    """Return the task of a job's current launch."""
    return CHECK if job.checking else job.task


def spec_of(job: Job) -> dict[str, Any]:
    """Return a job's specification for its current launch: a check of the dataset has no GPUs, and one node."""
    if task_of(job) != CHECK:
        return job.spec
    return {name: value for name, value in job.spec.items() if name not in _FOR_GPUS}


def seconds(job: Job, name: str) -> float:
    """Return a duration such as ``longest_running_seconds``: from the job's spec, or else from the settings."""
    return float(job.spec.get(name) or getattr(settings(), name))
