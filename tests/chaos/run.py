"""One run: asks for the jobs of its plan, brings about the faults, calls sweep, and waits until all has come to rest."""

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
from tests.chaos.checks import ALWAYS, AT_REST, Check, Seen, Verdict, judge
from tests.chaos.faults import Faults
from tests.chaos.plan import Work, faults, works
from tests.chaos.sink import Sink, listening
from tests.chaos.stack import SLOTS, ClosedError, Stack

SWEEP_SECONDS = 1.0
#: so many jobs are on their way at most: enough for a few to wait for one of the launcher's slots
OPEN_LIMIT = SLOTS + 8
_CALLERS = 12
_LOOK_SECONDS = 0.25
_FAULTS_BEHIND = 2


class Run:
    """What a run knows of itself."""

    def __init__(self, jobs: int, seed: int, home: Path, minutes: float) -> None:
        self.seed, self.home, self.minutes = seed, home, minutes
        self.works, self.plan = works(jobs, seed), faults(jobs, seed)
        #: by the job's number, when the API or the bucket took it; and its id, where that is told at once
        self.accepted: dict[int, str] = {}
        self.counts: Counter[str] = Counter()
        #: by status, 0 for none
        self.sweeps: Counter[int] = Counter()
        #: requests that no retry could mend
        self.refused: list[str] = []
        self.open = 0
        self.unsent = 0
        self.requested, self.calm, self.over = threading.Event(), threading.Event(), threading.Event()
        self.began = time.monotonic()
        self.stopped: Stopped | None = None
        self.stack: Stack
        self.sink: Sink

    def all(self, rest_seconds: float) -> Verdict:
        """Do it all, and judge it; ``rest_seconds`` is how long what is open at the end of the faults may take.

        Where a signal stops it, what has happened until then is judged by what holds at any moment.
        """
        with no_process_left(), ExitStack() as parts:
            self.sink = parts.enter_context(listening())
            self.stack = Stack(self.home, self.seed, self.sink.address)
            parts.callback(self.stack.close)
            parts.callback(self.over.set)
            try:
                self._run(rest_seconds)
            except Stopped as stopped:
                self.stopped = stopped
                self.over.set()
                self.stack.stop_functions()
                return self._judge(ALWAYS)
            return self._judge({**ALWAYS, **AT_REST})

    def _run(self, rest_seconds: float) -> None:
        subreaper.reaping(lambda: {process.pid for process in list(self.stack.running.values())}, self.over)
        for name, work in (
            ("look", self._look),
            ("sweep 1", self._sweep),
            ("sweep 2", self._sweep),
            ("mend", self._mend),
        ):
            _thread(work, name)
        faults = _thread(self._bring_faults, "faults")
        self._ask_for_all()
        self.requested.set()
        faults.join()
        self._rest(rest_seconds)

    def _judge(self, checks: Mapping[str, Check]) -> Verdict:
        return judge(self._seen(), checks) | {"requests refused": self.refused}

    def _seen(self) -> Seen:
        """Return what there is to judge by, as it is now."""
        return Seen(
            self.seed,
            self.works,
            self.accepted,
            self.home,
            self.stack.postgresql.get_uri(),
            self.sink.taken,
            list(subreaper.trainers().values()),
        )

    def _ask_for_all(self) -> None:
        waiting: queue.SimpleQueue[Work | None] = queue.SimpleQueue()
        callers = [_thread(lambda: self._ask(waiting), "ask") for _ in range(_CALLERS)]
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
        """Say whether so many faults are due that this job would meet none of them."""
        due = sum(fault.after < number for fault in self.plan)
        return due - self.counts.total() > _FAULTS_BEHIND

    def _ask(self, waiting: "queue.SimpleQueue[Work | None]") -> None:
        while (work := waiting.get()) is not None:
            try:
                self.accepted[work.number] = requests.ask(self.stack.variables, self.seed, work)
            except requests.RefusedError as refused:
                self.refused.append(str(refused))
                continue
            if work.cancel_after_seconds is not None:
                _thread(lambda work=work: self._cancel(work), "cancel")  # type: ignore[misc]

    def _cancel(self, work: Work) -> None:
        time.sleep(work.cancel_after_seconds or 0)
        try:
            requests.cancel(self.stack.variables, self.accepted[work.number])
        except requests.RefusedError as refused:
            self.refused.append(str(refused))

    def _bring_faults(self) -> None:
        hands = Faults(self.stack, self.sink)
        for fault in self.plan:
            while len(self.accepted) < fault.after and not self.requested.is_set():
                time.sleep(0.02)
            if len(self.accepted) < fault.after:
                break  # the time was up, or too much was refused
            hands.bring(fault)
            self.counts[fault.kind] += 1
        hands.take_back()
        (self.home / "calm").touch()
        self.calm.set()

    def _sweep(self) -> None:
        while not self.over.wait(SWEEP_SECONDS):
            answer = requests.sweep(self.stack.variables, self.stack.ports["sweep"])
            self.sweeps[answer] += 1

    def _mend(self) -> None:
        while not self.over.wait(0.3):
            self.stack.mend()

    def _look(self) -> None:
        """Follow how many jobs are open, past all that the database goes through."""
        states = ", ".join(f"'{state}'" for state in FINAL)
        query = f"SELECT (SELECT count(*) FROM job WHERE state NOT IN ({states})), (SELECT count(*) FROM outbox WHERE sent_at IS NULL)"
        while not self.over.wait(_LOOK_SECONDS):
            try:
                with psycopg.connect(self.stack.postgresql.get_uri(), autocommit=True, connect_timeout=5) as connection:
                    for number in itertools.count():
                        row = connection.execute(query.encode()).fetchone()
                        self.open, self.unsent = row or (0, 0)
                        if number % 120 == 0:
                            self._say()
                        if self.over.wait(_LOOK_SECONDS):
                            return
            except psycopg.Error:
                continue

    def _say(self) -> None:
        minutes = (time.monotonic() - self.began) / 60
        line = {"minutes": round(minutes, 1), "accepted": len(self.accepted), "open": self.open, "unsent": self.unsent}
        print(json.dumps(line | {"faults": self.counts.total()}), flush=True)

    def _rest(self, seconds: float) -> None:
        """Wait until no job is open, and all events are told."""
        end = time.monotonic() + seconds
        quiet = 0
        while quiet < 8 and time.monotonic() < end:
            time.sleep(_LOOK_SECONDS)
            quiet = quiet + 1 if self.open == 0 and self.unsent == 0 else 0
        while subreaper.trainers() and time.monotonic() < end:
            time.sleep(_LOOK_SECONDS)


def _thread(work: Callable[[], None], name: str) -> threading.Thread:
    def run() -> None:
        with suppress(ClosedError):
            work()

    thread = threading.Thread(target=run, name=name, daemon=True)
    thread.start()
    return thread
