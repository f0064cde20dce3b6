"""Work on many files on all cores, in forked processes, which share what this one has already read."""

import gc
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any, TypeVar

Task = TypeVar("Task")
Result = TypeVar("Result")
CHECK_SECONDS, MOST_PROCESSES = 0.5, 16

_function: Callable[[Any], Any]  # of a forked process


def spread(function: Callable[[Task], Result], tasks: Iterable[Task], check: Callable[[], None]) -> Iterator[Result]:
    """Yield the function's results in the order of the tasks, holding only a few tasks at a time.

    Only tasks and results are sent between the processes. ``check`` is called while this process waits; it may raise.
    """
    processes = min(
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1, MOST_PROCESSES
    )
    pending: deque[Future[Result]] = deque()
    pool = ProcessPoolExecutor(processes, get_context("fork"), _begin, (function, os.getpid()))
    try:
        for task in tasks:
            pending.append(pool.submit(_call, task))
            while len(pending) > 2 * processes or (pending and pending[0].done()):
                yield _waited_for(pending.popleft(), check)
        while pending:
            yield _waited_for(pending.popleft(), check)
    finally:
        pool.shutdown(wait=not pending, cancel_futures=True)


def _waited_for(future: Future[Result], check: Callable[[], None]) -> Result:
    while True:
        check()
        try:
            return future.result(CHECK_SECONDS)
        except TimeoutError:
            if future.done():  # the function's own TimeoutError
                raise


def _begin(function: Callable[[Any], Any], parent: int) -> None:
    global _function  # noqa: PLW0603 -- a pool's initializer has no other place
    _function = function
    gc.disable()  # it would write to each object, and so copy all memory that is shared with the parent
    threading.Thread(target=_end_with, args=[parent], daemon=True).start()


def _end_with(parent: int) -> None:
    """End this process when its parent was killed: the pool's pipes would stay open."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def _call(task: Any) -> Any:
    return _function(task)
