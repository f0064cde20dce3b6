"""The plan of a run, drawn from its seed: jobs, how each must end, and faults."""

import random
from typing import Any, NamedTuple

from functions.domain.states import Reason, State


class Work(NamedTuple):
    """One job: its trainer's behaviour, and the required end of the job."""

    number: int
    kind: str
    #: the stub trainer's HYPERPARAMETERS
    plan: dict[str, Any]
    ends: State = State.SUCCEEDED
    reason: Reason | None = None
    #: expected launches: one, and one for each death of its trainer
    launches: int = 1
    is_upload: bool = False
    check_first: bool = False
    cancel_after_seconds: float | None = None


class Fault(NamedTuple):
    """One fault, injected once ``after`` jobs have been accepted."""

    after: int
    kind: str
    target: str
    seconds: float
    amount_seconds: float = 0.0


REPLICAS = ("front-a", "front-b", "sweep")
#: jobs between two infrastructure faults, on average
JOBS_PER_FAULT = 25
KINDS = {
    "plain": 700,
    "stores": 60,
    "uploaded": 40,
    "killed": 50,
    "killed twice": 10,
    "terminated": 20,
    "supervisor killed": 30,
    "both killed": 20,
    "reports a failure": 10,
    "exits 65": 10,
    "killed too often": 10,
    "checked first": 40,
    "killed while it is checked": 15,
    "killed after its check": 15,
    "broken, says its check": 10,
    "cancelled": 30,
    "cancelled, ignores SIGTERM": 10,
}
FAULTS = {
    "function killed": 20,
    "function frozen": 20,
    "clock of a function jumps": 22,
    "PostgreSQL frozen": 12,
    "PostgreSQL restarted": 6,
    "S3 server frozen": 8,
    "S3 server killed": 3,
    "sink unavailable": 5,
    "sink rejects some jobs": 5,
    "control plane down for ten minutes": 2,
}
OUTAGE_SECONDS = 600.0
_LONGEST_FREEZE_SECONDS = 3.0
_LONGEST_JUMP_SECONDS = 1200.0


def works(count: int, seed: int) -> list[Work]:
    """Return the jobs of a run; with enough jobs, each kind occurs."""
    dice = random.Random(f"{seed}:jobs")
    kinds = dice.choices(list(KINDS), list(KINDS.values()), k=count)
    kinds[: len(KINDS)] = list(KINDS)[:count]
    dice.shuffle(kinds)
    return [_work(number, kind, dice) for number, kind in enumerate(kinds)]


def _work(number: int, kind: str, dice: random.Random) -> Work:
    epochs = dice.randint(1, 2)
    plan: dict[str, Any] = {"epochs": epochs, "pause": round(dice.uniform(0, 0.3), 3)}
    #: the epochs after which it dies; -1 is before its `started` event
    epochs_of_death = [dice.randint(-1, epochs), dice.randint(-1, epochs)]
    waits = {"epochs": 1, "pause": 0.1, "end": "wait"}
    cancelled = Work(number, kind, waits, State.CANCELLED, cancel_after_seconds=round(dice.uniform(0, 3), 3))
    return {
        "plain": Work(number, kind, plan),
        "stores": Work(number, kind, plan | {"stores": True}),
        "uploaded": Work(number, kind, plan, is_upload=True),
        "killed": Work(number, kind, plan | {"deaths": [["kill", epochs_of_death[0]]]}, launches=2),
        "killed twice": Work(
            number, kind, plan | {"deaths": [["kill", epochs_of_death[0]], ["kill", epochs_of_death[1]]]}, launches=3
        ),
        "terminated": Work(number, kind, plan | {"deaths": [["term", max(epochs_of_death[0], 0)]]}, launches=2),
        "supervisor killed": Work(number, kind, plan | {"deaths": [["supervisor", epochs_of_death[0]]]}),
        "both killed": Work(number, kind, plan | {"deaths": [["both", epochs_of_death[0]]]}, launches=2),
        "reports a failure": Work(number, kind, plan | {"end": "fail"}, State.FAILED, Reason.TRAINER_ERROR),
        "exits 65": Work(number, kind, plan | {"end": "exit"}, State.FAILED, Reason.DATASET_INVALID),
        "killed too often": Work(
            number,
            kind,
            plan | {"deaths": [["kill", epochs_of_death[0]], ["kill", epochs_of_death[1]]]},
            State.FAILED,
            Reason.LOST,
            launches=2,
        ),
        "checked first": Work(number, kind, plan, launches=2, check_first=True),
        "killed while it is checked": Work(
            number, kind, plan | {"deaths": [["kill", min(epochs_of_death[0], 0)]]}, launches=3, check_first=True
        ),
        "killed after its check": Work(
            number,
            kind,
            plan | {"deaths": [["kill", None], ["kill", epochs_of_death[0]]]},
            launches=3,
            check_first=True,
        ),
        "broken, says its check": Work(
            number, kind, plan | {"is_broken": True}, State.FAILED, Reason.DATASET_INVALID, check_first=True
        ),
        "cancelled": cancelled,
        "cancelled, ignores SIGTERM": cancelled._replace(plan=waits | {"ignores_sigterm": True}),
    }[kind]


def faults(count: int, seed: int) -> list[Fault]:
    """Return the faults of a run of ``count`` jobs, in order; each kind occurs at least once."""
    dice = random.Random(f"{seed}:faults")
    kinds = dice.choices(list(FAULTS), list(FAULTS.values()), k=max(len(FAULTS), count // JOBS_PER_FAULT))
    kinds[: len(FAULTS)] = FAULTS
    dice.shuffle(kinds)
    times = sorted(dice.randrange(count) for _ in kinds)
    return [
        Fault(
            after,
            kind,
            dice.choice(REPLICAS),
            round(dice.uniform(0.2, _LONGEST_FREEZE_SECONDS), 3),
            round(dice.uniform(-_LONGEST_JUMP_SECONDS, _LONGEST_JUMP_SECONDS), 3),
        )
        for after, kind in zip(times, kinds, strict=True)
    ]
