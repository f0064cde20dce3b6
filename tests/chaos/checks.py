"""Invariants of a run, whatever failed in it; each check names the jobs that violate it."""

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

#: violations by the name of the check
Verdict = dict[str, list[str]]


@dataclass
class Observations:
    """The data that the checks read."""

    seed: int
    works: list[Work]
    accepted: dict[int, str]
    home: Path
    database_url: str
    delivered: dict[str, list[int]]
    processes_left: list[str]

    def rows(self, query: str) -> list[Any]:
        """Return rows of the store."""
        with psycopg.connect(self.database_url, row_factory=namedtuple_row) as connection:
            return connection.execute(query.encode()).fetchall()

    @cached_property
    def jobs(self) -> dict[str, list[Any]]:
        """Return the jobs by dataset; each list should have one."""
        grouped = defaultdict(list)
        for job in self.rows("SELECT * FROM job ORDER BY id"):
            grouped[job.dataset_id].append(job)
        return grouped

    @cached_property
    def pairs(self) -> list[tuple[Work, Any]]:
        """Return each accepted plan with its job, if it has exactly one."""
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
        """Return the lines of the trainers' log: job, launch, action, details."""
        path = self.home / "trainers.log"
        return [line.split(" ", 3) for line in path.read_text().splitlines()] if path.exists() else []


Check = Callable[[Observations], Iterator[str]]


def check_all(run: Observations, checks: Mapping[str, Check]) -> Verdict:
    """Return the violations of each check."""
    return {name: list(check(run)) for name, check in checks.items()}


def _lost(run: Observations) -> Iterator[str]:
    for work in run.works:
        jobs = run.jobs.get(dataset_id(run.seed, work), [])
        if work.number not in run.accepted or not jobs:
            yield f"{work.kind}: {dataset_id(run.seed, work)} did not become a job"
        yield from (f"{work.kind}: {job.id} is {job.state}" for job in jobs if job.state not in FINAL)


def _duplicated(run: Observations) -> Iterator[str]:
    yield from (f"{name}: {[job.id for job in jobs]}" for name, jobs in run.jobs.items() if len(jobs) > 1)


def _failed(run: Observations) -> Iterator[str]:
    for work, job in run.pairs:
        if work.ends == State.SUCCEEDED and job.state in FINAL and job.state != work.ends:
            yield f"{work.kind}: {job.id} is {job.state} {job.reason}: {job.message}"


def _unplanned_end(run: Observations) -> Iterator[str]:
    for work, job in run.pairs:
        if work.ends != State.SUCCEEDED and (job.state, job.reason) != (work.ends, work.reason):
            yield f"{work.kind}: {job.id} is {job.state} {job.reason}: {job.message}"


def _launches(run: Observations) -> Iterator[str]:
    for work, job in run.pairs:
        if job.launch != work.launches:
            yield f"{work.kind}: {job.id} was launched {job.launch} times, not {work.launches}"


def _launched_twice(run: Observations) -> Iterator[str]:
    started = Counter((job, launch) for job, launch, what, *_ in run.trainers if what == "started")
    yield from (f"{job} launch {launch}: {count} processes" for (job, launch), count in started.items() if count > 1)
    for job, launch, what, *details in run.trainers:
        if what == "concurrent":
            yield f"{job} launch {launch}: another process of this {details[0]} was alive"


def _unfenced(run: Observations) -> Iterator[str]:
    for work, job in run.pairs:
        if job.attempt > job.launch:
            yield f"{work.kind}: {job.id} has {job.attempt} attempts and {job.launch} launches"


def _illegal(run: Observations) -> Iterator[str]:
    for _, job in run.pairs:
        states = [State(state) for state in run.states[job.id]]
        moves = itertools.pairwise(states)
        if states[:1] != [State.PENDING] or states[-1] != job.state or any(b not in NEXT[a] for a, b in moves):
            yield f"{job.id} is {job.state}, its timeline is {states}"


def _heartbeats(run: Observations) -> Iterator[str]:
    query = (
        "SELECT job_id, attempt, count(*), max(epoch) AS epoch FROM job_event WHERE kind = 'heartbeat' GROUP BY 1, 2"
    )
    grouped = {(row.job_id, row.attempt): (row.count, row.epoch) for row in run.rows(query)}
    for work, job in run.pairs:
        if job.state == State.SUCCEEDED:
            expected = work.plan["epochs"]
            if grouped.get((job.id, job.attempt)) != (expected, expected) or job.epoch != expected:
                yield f"{work.kind}: {job.id} has {grouped.get((job.id, job.attempt))}, not {expected}"


def _outbox(run: Observations) -> Iterator[str]:
    delivered = defaultdict(list)
    for row in run.rows("SELECT job_id, type, sequence FROM outbox ORDER BY job_id, sequence"):
        delivered[row.job_id].append((row.sequence, row.type.removeprefix("dev.stoker.job.").upper()))
    for _, job in run.pairs:
        if delivered[job.id] != list(enumerate(run.states[job.id], 1)) or job.sequence != len(delivered[job.id]):
            yield f"{job.id}: {delivered[job.id]}, and the timeline is {run.states[job.id]}"


def _undelivered(run: Observations) -> Iterator[str]:
    for _, job in run.pairs:
        missing = set(range(1, job.sequence + 1)) - set(run.delivered.get(job.id, []))
        if missing:
            yield f"{job.id}: {sorted(missing)}"


def _out_of_order(run: Observations) -> Iterator[str]:
    for job_id, numbers in run.delivered.items():
        first = list(dict.fromkeys(numbers))
        if first != sorted(first):
            yield f"{job_id}: {numbers}"


def _rejected(run: Observations) -> Iterator[str]:
    cancelled = {job.id for _, job in run.pairs if job.state == State.CANCELLED}
    for job, launch, what, *details in run.trainers:
        if what in {"refused", "unanswered", "unstored", "checkpoint"} or (what == "conflict" and job not in cancelled):
            yield f"{job} launch {launch}: {what} {' '.join(details)}"


def _errors(run: Observations) -> Iterator[str]:
    for path in sorted((run.home / "logs").glob("*.log")):
        for line in path.read_text(errors="replace").splitlines():
            if path.stem in {"front-a", "front-b", "sweep"} and " ERROR " in line:
                yield f"{path.stem}: {line[:300]}"


#: hold at any moment
ALWAYS: Mapping[str, Check] = {
    "jobs created twice": _duplicated,
    "healthy jobs that failed": _failed,
    "launches that ran twice": _launched_twice,
    "more attempts than launches": _unfenced,
    "illegal state changes": _illegal,
    "heartbeats lost or counted twice": _heartbeats,
    "events that differ from the timeline": _outbox,
    "events delivered out of order": _out_of_order,
    "errors in the functions' logs": _errors,
}
#: hold once all jobs have ended and all events are delivered
SETTLED: Mapping[str, Check] = {
    "jobs lost": _lost,
    "jobs with another end than planned": _unplanned_end,
    "wrong number of launches": _launches,
    "events not delivered": _undelivered,
    "processes left over": lambda run: iter(run.processes_left),
    "trainers rejected or not answered": _rejected,
}
