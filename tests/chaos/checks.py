"""What has to be true after a run, whatever went wrong in it; each check names the jobs that break it."""

import itertools
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import psycopg
from psycopg.rows import namedtuple_row

from functions.domain.states import FINAL, NEXT, State
from tests.chaos.plan import Work
from tests.chaos.requests import dataset_id

#: by the check's name, what breaks it
Verdict = dict[str, list[str]]


@dataclass
class Seen:
    """What there is to judge by."""

    seed: int
    works: list[Work]
    accepted: dict[int, str]
    home: Path
    database_url: str
    delivered: dict[str, list[int]]
    left: list[str]

    def rows(self, query: str) -> list[Any]:
        """Return rows of the store."""
        with psycopg.connect(self.database_url, row_factory=namedtuple_row) as connection:
            return connection.execute(query.encode()).fetchall()

    @cached_property
    def jobs(self) -> dict[str, list[Any]]:
        """Return the jobs by dataset: one each, if all is well."""
        grouped = defaultdict(list)
        for job in self.rows("SELECT * FROM job ORDER BY id"):
            grouped[job.dataset_id].append(job)
        return grouped

    @cached_property
    def pairs(self) -> list[tuple[Work, Any]]:
        """Return each accepted piece of work with its one job."""
        grouped = ((work, self.jobs.get(dataset_id(self.seed, work), [])) for work in self.works)
        return [(work, jobs[0]) for work, jobs in grouped if work.number in self.accepted and len(jobs) == 1]

    @cached_property
    def states(self) -> dict[str, list[str]]:
        """Return each job's timeline."""
        grouped = defaultdict(list)
        for row in self.rows("SELECT job_id, type FROM job_event WHERE kind = 'state' ORDER BY job_id, id"):
            grouped[row.job_id].append(row.type)
        return grouped

    @cached_property
    def trainers(self) -> list[list[str]]:
        """Return what the trainers wrote down: job, launch, what, and details."""
        path = self.home / "trainers.log"
        return [line.split(" ", 3) for line in path.read_text().splitlines()] if path.exists() else []


Check = Callable[[Seen], Iterator[str]]


def judge(seen: Seen, checks: Mapping[str, Check]) -> Verdict:
    """Return what broke which check; nothing anywhere is what a run is for."""
    return {name: list(check(seen)) for name, check in checks.items()}


def _lost(seen: Seen) -> Iterator[str]:
    for work in seen.works:
        jobs = seen.jobs.get(dataset_id(seen.seed, work), [])
        if work.number not in seen.accepted or not jobs:
            yield f"{work.kind}: {dataset_id(seen.seed, work)} is no job"
        yield from (f"{work.kind}: {job.id} is {job.state}" for job in jobs if job.state not in FINAL)


def _doubled(seen: Seen) -> Iterator[str]:
    yield from (f"{name}: {[job.id for job in jobs]}" for name, jobs in seen.jobs.items() if len(jobs) > 1)


def _failed(seen: Seen) -> Iterator[str]:
    for work, job in seen.pairs:
        if work.ends == State.SUCCEEDED and job.state in FINAL and job.state != work.ends:
            yield f"{work.kind}: {job.id} is {job.state} {job.reason}: {job.message}"


def _otherwise(seen: Seen) -> Iterator[str]:
    for work, job in seen.pairs:
        if work.ends != State.SUCCEEDED and (job.state, job.reason) != (work.ends, work.reason):
            yield f"{work.kind}: {job.id} is {job.state} {job.reason}: {job.message}"


def _launches(seen: Seen) -> Iterator[str]:
    for work, job in seen.pairs:
        if job.launch != work.launches:
            yield f"{work.kind}: {job.id} was launched {job.launch} times, not {work.launches}"


def _launched_twice(seen: Seen) -> Iterator[str]:
    started = Counter((job, launch) for job, launch, what, *_ in seen.trainers if what == "started")
    yield from (f"{job} launch {launch}: {count} processes" for (job, launch), count in started.items() if count > 1)
    for job, launch, what, *details in seen.trainers:
        if what == "double":
            yield f"{job} launch {launch}: another process of the {details[0]} was alive"


def _unfenced(seen: Seen) -> Iterator[str]:
    for work, job in seen.pairs:
        if job.attempt > job.launch:
            yield f"{work.kind}: {job.id} has {job.attempt} attempts of {job.launch} launches"


def _illegal(seen: Seen) -> Iterator[str]:
    for _, job in seen.pairs:
        states = [State(state) for state in seen.states[job.id]]
        moves = itertools.pairwise(states)
        if states[:1] != [State.PENDING] or states[-1] != job.state or any(b not in NEXT[a] for a, b in moves):
            yield f"{job.id} is {job.state} by {states}"


def _heartbeats(seen: Seen) -> Iterator[str]:
    query = (
        "SELECT job_id, attempt, count(*), max(epoch) AS epoch FROM job_event WHERE kind = 'heartbeat' GROUP BY 1, 2"
    )
    grouped = {(row.job_id, row.attempt): (row.count, row.epoch) for row in seen.rows(query)}
    for work, job in seen.pairs:
        if job.state == State.SUCCEEDED:
            wanted = work.plan["epochs"]
            if grouped.get((job.id, job.attempt)) != (wanted, wanted) or job.epoch != wanted:
                yield f"{work.kind}: {job.id} has {grouped.get((job.id, job.attempt))}, not {wanted}"


def _outbox(seen: Seen) -> Iterator[str]:
    delivered = defaultdict(list)
    for row in seen.rows("SELECT job_id, type, sequence FROM outbox ORDER BY job_id, sequence"):
        delivered[row.job_id].append((row.sequence, row.type.removeprefix("dev.stoker.job.").upper()))
    for _, job in seen.pairs:
        if delivered[job.id] != list(enumerate(seen.states[job.id], 1)) or job.sequence != len(delivered[job.id]):
            yield f"{job.id}: {delivered[job.id]}, and the timeline is {seen.states[job.id]}"


def _untold(seen: Seen) -> Iterator[str]:
    for _, job in seen.pairs:
        missing = set(range(1, job.sequence + 1)) - set(seen.delivered.get(job.id, []))
        if missing:
            yield f"{job.id}: {sorted(missing)}"


def _disordered(seen: Seen) -> Iterator[str]:
    for job_id, numbers in seen.delivered.items():
        first = list(dict.fromkeys(numbers))
        if first != sorted(first):
            yield f"{job_id}: {numbers}"


def _refused(seen: Seen) -> Iterator[str]:
    cancelled = {job.id for _, job in seen.pairs if job.state == State.CANCELLED}
    for job, launch, what, *details in seen.trainers:
        if what in {"refused", "unheard", "unstored", "checkpoint"} or (what == "conflict" and job not in cancelled):
            yield f"{job} launch {launch}: {what} {' '.join(details)}"


def _errors(seen: Seen) -> Iterator[str]:
    for path in sorted((seen.home / "logs").glob("*.log")):
        for line in path.read_text(errors="replace").splitlines():
            if path.stem in {"front-a", "front-b", "sweep"} and " ERROR " in line:
                yield f"{path.stem}: {line[:300]}"


#: what holds at any moment
ALWAYS: Mapping[str, Check] = {
    "jobs made twice": _doubled,
    "healthy jobs failed": _failed,
    "launches that ran twice": _launched_twice,
    "attempts not fenced": _unfenced,
    "illegal moves": _illegal,
    "heartbeats lost or counted twice": _heartbeats,
    "events that are not the timeline": _outbox,
    "events delivered out of order": _disordered,
    "functions' own errors": _errors,
}
#: what holds once all jobs have ended and all events are delivered
AT_REST: Mapping[str, Check] = {
    "jobs lost": _lost,
    "jobs that ended otherwise than planned": _otherwise,
    "launches too many or too few": _launches,
    "events not delivered": _untold,
    "processes left": lambda seen: iter(seen.left),
    "trainers refused or unheard": _refused,
}
