"""Scale: each step's cost in a store with a million finished jobs, against a store with only the open ones."""

import itertools
import os
import random
import re
import statistics
import subprocess
import sys
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from functools import partial
from typing import Any, NamedTuple

import psycopg
import pytest
from sqlalchemy import Engine, event

from functions.api import tokens
from functions.domain.spec import Spec
from functions.reconcile import sweeping
from functions.store import heartbeats, queries
from functions.store import jobs as store
from functions.store.heartbeats import Heartbeat
from functions.store.queries import Search
from tests.bench import filled
from tests.bench.conftest import QUICK, Figure, by_turns, seconds_of
from tests.conftest import ROOT, a_database, call, record_heartbeat

FINISHED = 20_000 if QUICK else 1_000_000
RUNNING = 1_000 if QUICK else 10_000
TURNS = 5 if QUICK else 21
SWEEP_TURNS = 5 if QUICK else 9
#: runs of one step in a turn; their median counts
TIMES = 50 if QUICK else 200
PLANS = ROOT / ".stoker/bench-plans.txt"
SPEC = Spec(framework="stub", model_name="stub-1", dataset_id="digits", epochs=8)
Use = Callable[[str], None]


class Stores(NamedTuple):
    """Two stores with the same open jobs; the large one also has the finished jobs."""

    large: str
    small: str
    running: list[str]
    at: datetime


@pytest.fixture(scope="module")
def stores(postgresql_server: str) -> Iterator[Stores]:
    now = tokens.now()
    with a_database(postgresql_server) as large, a_database(postgresql_server) as small:
        took = seconds_of(partial(filled.fill, large, finished=FINISHED, running=RUNNING, now=now))
        print(f"\nfilled with {FINISHED:,} finished jobs, {FINISHED * filled.EVENTS_PER_JOB:,} events in {took:.0f} s")
        filled.fill(small, finished=0, running=RUNNING, now=now)
        with psycopg.connect(small) as connection:
            running = [row[0] for row in connection.execute("SELECT id FROM job ORDER BY id")]
        yield Stores(large, small, running, now)


def steps(stores: Stores) -> dict[str, Callable[[], object]]:
    now = stores.at
    shuffled = random.Random(0).sample(stores.running, len(stores.running))
    jobs, numbers = itertools.cycle(shuffled), itertools.count(1)
    page = partial(queries.jobs, cursor=None, limit=50)
    return {
        "heartbeat": lambda: record_heartbeat(call(next(jobs)), Heartbeat(epoch=8, metrics={"loss": 0.25}), now=now),
        "create": lambda: store.create(SPEC, identity=f"bench-{next(numbers)}", trace_id="0" * 32, now=now),
        "list page": lambda: page({}),
        "list page by state": lambda: page({"state": "RUNNING"}),
        "one job": lambda: queries.job(next(jobs)),
        "events page": lambda: queries.events(next(jobs), kind=None, after=0, limit=10),
    }


def median_of(use: Use, url: str, step: Callable[[], object]) -> float:
    use(url)
    for _ in range(10):  # a connection, its prepared statements, SQLAlchemy's caches
        step()
    return statistics.median(seconds_of(step) for _ in range(TIMES))


@pytest.mark.timeout(3600)
def bench_each_step_beside_finished_jobs(store_of: Use, stores: Stores, report: Callable[[Figure], None]) -> None:
    for name, step in steps(stores).items():
        large, small = by_turns(
            TURNS, partial(median_of, store_of, stores.large, step), partial(median_of, store_of, stores.small, step)
        )
        report(Figure(f"{name} beside {FINISHED:,} finished jobs", "open jobs only", "s", large, small, "<= 1.1"))
    for url in stores.large, stores.small:  # jobs that `create` made do not belong to the other steps
        with psycopg.connect(url) as connection:
            made = "SELECT id FROM job WHERE state = 'PENDING'"
            connection.execute(f"DELETE FROM outbox WHERE job_id IN ({made})".encode())
            connection.execute(f"DELETE FROM job_event WHERE job_id IN ({made})".encode())
            connection.execute("DELETE FROM job WHERE state = 'PENDING'")


@pytest.mark.usefixtures("s3")
@pytest.mark.timeout(3600)
def bench_sweep_beside_finished_jobs(store_of: Use, stores: Stores, report: Callable[[Figure], None]) -> None:
    def sweep(url: str) -> float:
        store_of(url)
        queries.jobs({}, cursor=None, limit=1)
        return seconds_of(lambda: sweeping.run(now=stores.at + timedelta(seconds=30)))

    by_turns(1, partial(sweep, stores.large), partial(sweep, stores.small))
    large, small = by_turns(SWEEP_TURNS, partial(sweep, stores.large), partial(sweep, stores.small))
    name = f"sweep of {RUNNING:,} running beside {FINISHED:,} finished jobs"
    report(Figure(name, "open jobs only", "s", large, small, "<= 1.1"))


@pytest.mark.usefixtures("s3", "no_trainer_left")
@pytest.mark.timeout(600)
def bench_plans_of_each_step(store_of: Use, stores: Stores) -> None:
    """Check that no step scans a whole table."""
    statements: dict[str, tuple[str, Any]] = {}
    current = [""]

    def keep(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        if statement.split(maxsplit=1)[0] in {"SELECT", "UPDATE", "DELETE"}:
            statements.setdefault(statement, (current[0], parameters))

    store_of(stores.large)
    page = partial(queries.jobs, cursor=None, limit=50)
    reads = steps(stores) | {
        "list page by a rare framework": lambda: page({"framework": "rare"}),
        "list page by dataset": lambda: page({"dataset_id": "dataset-7"}),
        "list page by two": lambda: page({"state": "FAILED", "framework": "rare"}),
        "list page by owner": lambda: page({"owner": "person-7"}),
        "list page by states": lambda: page({}, search=Search(states=["RUNNING", "FAILED", "CANCELLED"])),
        "list page by tag": lambda: page({}, search=Search(tag="night")),
        "list page by a rare tag": lambda: page({}, search=Search(tag="rare")),
        "list page by a part of the name": lambda: page({}, search=Search(name="RUN 1")),
        "list page by a rare name": lambda: page({}, search=Search(name="no such name")),
        "list page by time, oldest first": lambda: page({}, search=Search(created_after=stores.at, oldest_first=True)),
        "sweep": lambda: sweeping.run(now=stores.at + timedelta(seconds=30)),
    }
    event.listen(Engine, "before_cursor_execute", keep)
    try:
        for name, read in reads.items():
            current[0] = name
            read()
    finally:
        event.remove(Engine, "before_cursor_execute", keep)
    beat = {
        "epoch": 8,
        "epochs": 8,
        "step": None,
        "eta_seconds": None,
        "metrics": None,
        "attempt": None,
        "launch": None,
        "at": stores.at,
        "ce_source": "/bench",
        "ce_id": "1",
    }
    statements[heartbeats._psycopg(heartbeats._AT_ONCE)] = ("heartbeat", {**beat, "job_id": stores.running[0]})

    plans, pages = [], defaultdict[str, list[tuple[int, int]]](list)
    for statement, (name, parameters) in statements.items():
        rows, touched = zip(*(explained(url, statement, parameters) for url in stores[:2]), strict=True)
        pages[name].append(touched)
        heading = f"{name}: {' '.join(statement.split())[:150]}\n{touched[0]} pages; {touched[1]} beside open jobs only"
        plans.append("\n  ".join([heading, *rows[0]]))
    for name, touched_each in pages.items():
        large, small = (sum(column) for column in zip(*touched_each, strict=True))
        print(f"{name}: {large} pages of 8 KiB; {small} beside open jobs only")
    PLANS.parent.mkdir(exist_ok=True)
    PLANS.write_text("\n\n".join(plans) + "\n")
    print(f"{len(plans)} plans: {PLANS.relative_to(ROOT)}")
    assert [plan for plan in plans if re.search(r"Seq Scan on (job|job_event|outbox)\b", plan)] == []


def explained(url: str, statement: str, parameters: Any) -> tuple[list[str], int]:
    """Return a statement's plan and the number of pages it read."""
    with psycopg.connect(url) as connection:
        rows = connection.execute(f"EXPLAIN (ANALYZE, BUFFERS) {statement}".encode(), parameters).fetchall()
        connection.rollback()
    plan = [row for (row,) in rows]
    # The outermost node of a nested statement does not count all pages of the inner ones.
    doing = plan[: plan.index("Planning:")] if "Planning:" in plan else plan
    return plan, max(sum(map(int, re.findall(r"(?:hit|read)=(\d+)", row))) for row in doing)


# Like sweep, but turn after turn without a pause.
_RETENTION = """
import sys
from functions.api import tokens
from functions.reconcile import retention
from functions.store import archive
mark_archived = archive.mark_archived
def marked(job_ids, key):
    mark_archived(job_ids, key)
    print(len(job_ids), flush=True)
archive.mark_archived = marked
while True:
    retention.run(now=tokens.now())
"""


@pytest.mark.usefixtures("s3")
@pytest.mark.timeout(3600)
def bench_heartbeat_during_retention(
    environment: pytest.MonkeyPatch,
    store_of: Use,
    stores: Stores,
    report: Callable[[Figure], None],
) -> None:
    environment.setenv("RETENTION_DAYS", "1")
    store_of(stores.large)
    step = steps(stores)["heartbeat"]
    slowest: dict[str, list[float]] = {"during": [], "without": []}
    moved: list[int] = []

    def beats(when: str, enough: Callable[[], object] = lambda: True) -> float:
        took: list[float] = []
        while len(took) < TIMES * 5 or not enough():
            took.append(seconds_of(step))
        slowest[when].append(sorted(took)[len(took) * 99 // 100])
        return statistics.median(took)

    def during() -> float:
        command = [sys.executable, "-c", _RETENTION]
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, env=os.environ) as mover:
            assert mover.stdout is not None
            lines, counts = mover.stdout, [int(mover.stdout.readline())]
            counting = threading.Thread(target=lambda: counts.extend(int(line) for line in lines))
            counting.start()
            took = beats("during", lambda: len(counts) > 2)
            mover.kill()
            counting.join()
        moved.extend(counts)
        return took

    beats("without")
    slowest["without"].clear()
    measured, baseline = by_turns(TURNS // 2, during, partial(beats, "without"))
    print(f"\nretention moved the events of {sum(moved):,} jobs meanwhile, and was killed {TURNS // 2} times")
    report(Figure("heartbeat during retention, median", "without it", "s", measured, baseline, "<= 1.1"))
    report(Figure("heartbeat during retention, 99th of 100", "without it", "s", slowest["during"], slowest["without"]))
