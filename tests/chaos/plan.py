"""All that a run does, drawn from its seed before it begins: the jobs, how each has to end, and the faults."""

import random
from typing import Any, NamedTuple

from functions.domain.states import Reason, State


class Work(NamedTuple):
    """One job: what its trainer is to do, and what has to become of it."""

    number: int
    kind: str
    #: what the stub trainer reads in HYPERPARAMETERS
    plan: dict[str, Any]
    ends: State = State.SUCCEEDED
    reason: Reason | None = None
    #: how often it has to be launched: no more than its own trainers' deaths cost
    launches: int = 1
    is_upload: bool = False
    cancel_after_seconds: float | None = None


class Fault(NamedTuple):
    """One thing that goes wrong, once so many jobs have been accepted."""

    after: int
    kind: str
    target: str
    seconds: float
    amount_seconds: float = 0.0


REPLICAS = ("front-a", "front-b", "sweep")
#: an average of so many jobs lies between two faults of the machinery
JOBS_A_FAULT = 25
KINDS = {
    "plain": 700,
    "stores": 60,
    "uploaded": 40,
    "killed": 50,
    "killed twice": 10,
    "terminated": 20,
    "supervisor killed": 30,
    "both killed": 20,
    "says it failed": 10,
    "exits 65": 10,
    "killed too often": 10,
    "cancelled": 30,
    "cancelled, deaf to SIGTERM": 10,
}
FAULTS = {
    "function killed": 20,
    "function frozen": 20,
    "clock of a function jumps": 22,
    "PostgreSQL frozen": 12,
    "PostgreSQL restarted": 6,
    "S3 server frozen": 8,
    "S3 server killed": 3,
    "sink away": 5,
    "sink refuses some jobs": 5,
    "control plane away for ten minutes": 2,
}
OUTAGE_SECONDS = 600.0
_LONGEST_FREEZE_SECONDS = 3.0
_LONGEST_JUMP_SECONDS = 1200.0


def works(count: int, seed: int) -> list[Work]:
    """Return the jobs of a run; each kind is there as soon as there are enough."""
    dice = random.Random(f"{seed}:jobs")
    kinds = dice.choices(list(KINDS), list(KINDS.values()), k=count)
    kinds[: len(KINDS)] = list(KINDS)[:count]
    dice.shuffle(kinds)
    return [_work(number, kind, dice) for number, kind in enumerate(kinds)]


def _work(number: int, kind: str, dice: random.Random) -> Work:
    epochs = dice.randint(1, 2)
    plan: dict[str, Any] = {"epochs": epochs, "pause": round(dice.uniform(0, 0.3), 3)}
    #: after how many epochs it dies; before it has even said started, half the time that this is 0
    now = [dice.randint(-1, epochs), dice.randint(-1, epochs)]
    waits = {"epochs": 1, "pause": 0.1, "end": "wait"}
    cancelled = Work(number, kind, waits, State.CANCELLED, cancel_after_seconds=round(dice.uniform(0, 3), 3))
    return {
        "plain": Work(number, kind, plan),
        "stores": Work(number, kind, plan | {"stores": True}),
        "uploaded": Work(number, kind, plan, is_upload=True),
        "killed": Work(number, kind, plan | {"deaths": [["kill", now[0]]]}, launches=2),
        "killed twice": Work(number, kind, plan | {"deaths": [["kill", now[0]], ["kill", now[1]]]}, launches=3),
        "terminated": Work(number, kind, plan | {"deaths": [["term", max(now[0], 0)]]}, launches=2),
        "supervisor killed": Work(number, kind, plan | {"deaths": [["supervisor", now[0]]]}),
        "both killed": Work(number, kind, plan | {"deaths": [["both", now[0]]]}, launches=2),
        "says it failed": Work(number, kind, plan | {"end": "fail"}, State.FAILED, Reason.TRAINER_ERROR),
        "exits 65": Work(number, kind, plan | {"end": "exit"}, State.FAILED, Reason.DATASET_INVALID),
        "killed too often": Work(
            number, kind, plan | {"deaths": [["kill", now[0]], ["kill", now[1]]]}, State.FAILED, Reason.LOST, launches=2
        ),
        "cancelled": cancelled,
        "cancelled, deaf to SIGTERM": cancelled._replace(plan=waits | {"deaf": True}),
    }[kind]


def faults(count: int, seed: int) -> list[Fault]:
    """Return the faults of a run of so many jobs, in order; each kind is there at least once."""
    dice = random.Random(f"{seed}:faults")
    kinds = dice.choices(list(FAULTS), list(FAULTS.values()), k=max(len(FAULTS), count // JOBS_A_FAULT))
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
