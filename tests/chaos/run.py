"""One run: submits the planned jobs, injects the faults, calls sweep, and waits until all jobs have ended."""

import itertools
import json
import queue
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path

import psycopg

from functions.domain.states import FINAL
from infra.local.stopping import Stopped, no_process_left
from tests.chaos import requests, subreaper
from tests.chaos.checks import ALWAYS, SETTLED, Check, Observations, Verdict, check_all
from tests.chaos.faults import Faults
from tests.chaos.plan import Work, faults, works
from tests.chaos.sink import Sink, listening
from tests.chaos.stack import SLOTS, ClosedError, Stack

SWEEP_SECONDS = 1.0
#: the most jobs that are open at once: a few of them wait for a slot of the launcher
OPEN_LIMIT = SLOTS + 8
_CALLERS = 12
_POLL_SECONDS = 0.25
_FAULTS_BEHIND = 2


class Run:
    """The state of a run."""

    def __init__(self, jobs: int, seed: int, home: Path, minutes: float) -> None:
        self.seed, self.home, self.minutes = seed, home, minutes
        self.works, self.plan = works(jobs, seed), faults(jobs, seed)
        #: job IDs by number, of the accepted jobs; "" for uploads
        self.accepted: dict[int, str] = {}
        self.counts: Counter[str] = Counter()
        #: number of responses by status, 0 for none
        self.sweeps: Counter[int] = Counter()
        #: errors of requests that no retry could make succeed
        self.rejected: list[str] = []
        self.open = 0
        self.undelivered = 0
        self.requested, self.calm, self.over = threading.Event(), threading.Event(), threading.Event()
        self.began = time.monotonic()
        self.stopped: Stopped | None = None
        self.stack: Stack
        self.sink: Sink

    def all(self, settle_seconds: float) -> Verdict:
        """Run, and check the result; open jobs may take ``settle_seconds`` after the last fault.

        A run that is stopped by a signal is checked only for invariants.
        """
        with no_process_left(), ExitStack() as parts:
            self.sink = parts.enter_context(listening())
            self.stack = Stack(self.home, self.seed, self.sink.address)
            parts.callback(self.stack.close)
            parts.callback(self.over.set)
            try:
                self._run(settle_seconds)
            except Stopped as stopped:
                self.stopped = stopped
                self.over.set()
                self.stack.stop_functions()
                return self._check(ALWAYS)
            return self._check({**ALWAYS, **SETTLED})

    def _run(self, settle_seconds: float) -> None:
        subreaper.start(lambda: {process.pid for process in list(self.stack.running.values())}, self.over)
        for name, work in (
            ("poll", self._poll),
            ("sweep 1", self._sweep),
            ("sweep 2", self._sweep),
            ("restart", self._restart_functions),
        ):
            _thread(work, name)
        faults = _thread(self._inject_faults, "faults")
        self._submit_all()
        self.requested.set()
        faults.join()
        self._settle(settle_seconds)

    def _check(self, checks: Mapping[str, Check]) -> Verdict:
        return check_all(self._observations(), checks) | {"requests rejected": self.rejected}

    def _observations(self) -> Observations:
        """Return the data for the checks."""
        return Observations(
            self.seed,
            self.works,
            self.accepted,
            self.home,
            self.stack.postgresql.get_uri(),
            self.sink.received,
            list(subreaper.trainers().values()),
        )

    def _submit_all(self) -> None:
        waiting: queue.SimpleQueue[Work | None] = queue.SimpleQueue()
        callers = [_thread(lambda: self._submit(waiting), "submit") for _ in range(_CALLERS)]
        end = time.monotonic() + self.minutes * 60
        for work in self.works:
            if time.monotonic() > end:
                self.works = self.works[: work.number]
                break
            while self.open + waiting.qsize() >= OPEN_LIMIT or self._is_ahead_of_faults(work.number):
                time.sleep(0.02)
            waiting.put(work)
        for _ in callers:
            waiting.put(None)
        for caller in callers:
            caller.join()

    def _is_ahead_of_faults(self, number: int) -> bool:
        """Return whether too many faults are due: this job would run before them."""
        due = sum(fault.after < number for fault in self.plan)
        return due - self.counts.total() > _FAULTS_BEHIND

    def _submit(self, waiting: "queue.SimpleQueue[Work | None]") -> None:
        while (work := waiting.get()) is not None:
            try:
                self.accepted[work.number] = requests.submit(self.stack.variables, self.seed, work)
            except requests.RejectedError as error:
                self.rejected.append(str(error))
                continue
            if work.cancel_after_seconds is not None:
                _thread(lambda work=work: self._cancel(work), "cancel")  # type: ignore[misc]

    def _cancel(self, work: Work) -> None:
        time.sleep(work.cancel_after_seconds or 0)
        try:
            requests.cancel(self.stack.variables, self.accepted[work.number])
        except requests.RejectedError as error:
            self.rejected.append(str(error))

    def _inject_faults(self) -> None:
        injector = Faults(self.stack, self.sink)
        for fault in self.plan:
            while len(self.accepted) < fault.after and not self.requested.is_set():
                time.sleep(0.02)
            if len(self.accepted) < fault.after:
                break  # the time was up, or too many requests were rejected
            injector.inject(fault)
            self.counts[fault.kind] += 1
        injector.end_all()
        (self.home / "calm").touch()
        self.calm.set()

    def _sweep(self) -> None:
        while not self.over.wait(SWEEP_SECONDS):
            status = requests.sweep(self.stack.variables, self.stack.ports["sweep"])
            self.sweeps[status] += 1

    def _restart_functions(self) -> None:
        while not self.over.wait(0.3):
            self.stack.restart_functions()

    def _poll(self) -> None:
        """Keep the number of open jobs current, in spite of the database's failures."""
        states = ", ".join(f"'{state}'" for state in FINAL)
        query = f"SELECT (SELECT count(*) FROM job WHERE state NOT IN ({states})), (SELECT count(*) FROM outbox WHERE sent_at IS NULL)"
        while not self.over.wait(_POLL_SECONDS):
            try:
                with psycopg.connect(self.stack.postgresql.get_uri(), autocommit=True, connect_timeout=5) as connection:
                    for number in itertools.count():
                        row = connection.execute(query.encode()).fetchone()
                        self.open, self.undelivered = row or (0, 0)
                        if number % 120 == 0:
                            self._print_progress()
                        if self.over.wait(_POLL_SECONDS):
                            return
            except psycopg.Error:
                continue

    def _print_progress(self) -> None:
        minutes = (time.monotonic() - self.began) / 60
        line = {
            "minutes": round(minutes, 1),
            "accepted": len(self.accepted),
            "open": self.open,
            "undelivered": self.undelivered,
        }
        print(json.dumps(line | {"faults": self.counts.total()}), flush=True)

    def _settle(self, seconds: float) -> None:
        """Wait until no job is open and all events are delivered."""
        end = time.monotonic() + seconds
        quiet = 0
        while quiet < 8 and time.monotonic() < end:
            time.sleep(_POLL_SECONDS)
            quiet = quiet + 1 if self.open == 0 and self.undelivered == 0 else 0
        while subreaper.trainers() and time.monotonic() < end:
            time.sleep(_POLL_SECONDS)


def _thread(work: Callable[[], None], name: str) -> threading.Thread:
    def run() -> None:
        with suppress(ClosedError):
            work()

    thread = threading.Thread(target=run, name=name, daemon=True)
    thread.start()
    return thread
