"""Imported by each function of a chaos run at its start: gives it a fast, jumping clock, and kills it between two lines.

``CHAOS_HOME`` holds ``clock-{replica}``, the error of this function's clock in seconds, ``lives-{replica}``, a byte for
each of its processes so far, ``deaths.log``, and ``calm``, which ends the killing.
"""

import itertools
import math
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from functions.api.responses import Response

#: share of the requests that die, and after how many lines at most
_CHANCE = {"front-a": 1 / 120, "front-b": 1 / 120, "sweep": 1 / 25}
_LINES = {"front-a": 500, "front-b": 500, "sweep": 20_000}


def _begin(home: Path, seed: str, replica: str) -> None:
    import jwt.api_jwt

    from functions.api import routes, tokens

    clock = os.open(home / f"clock-{replica}", os.O_RDONLY)
    began, rate = float(os.environ["CHAOS_BEGAN"]), float(os.environ["CHAOS_RATE"])

    def now() -> datetime:
        error = float(os.pread(clock, 64, 0)) + (rate - 1) * (time.time() - began)
        return datetime.now(UTC) + timedelta(seconds=error)

    tokens.now = now
    jwt.api_jwt.datetime = _shifted(now)  # type: ignore[attr-defined]  # it reads the clock itself
    code = str(Path(tokens.__file__).parent)
    answer, answer_async = routes.answer, routes.answer_async
    requests, life = itertools.count(), threading.local()

    def life_of_process() -> int:
        # A worker is a fork: the count before belongs to its parent.
        if getattr(life, "pid", None) != os.getpid():
            with (home / f"lives-{replica}").open("ab") as lives:
                lives.write(b".")
                lives.flush()
                life.pid, life.number = os.getpid(), lives.tell()
        return int(life.number)

    @contextmanager
    def dying(route: routes.Route) -> Iterator[None]:
        dice = random.Random(f"{seed}:{replica}:{life_of_process()}:{next(requests)}")
        is_to_die = route.method == "POST" and dice.random() < _CHANCE[replica]
        if not is_to_die or (home / "calm").exists():
            yield
            return
        left = int(math.exp(dice.uniform(0, math.log(_LINES[replica]))))
        sys.settrace(_dying_after(left, code, lambda where: _die(home, replica, where)))
        try:
            yield
        finally:
            sys.settrace(None)

    def call(route: routes.Route, *request: Any) -> "Response":
        with dying(route):
            return answer(route, *request)

    async def call_async(route: routes.Route, *request: Any) -> "Response":
        with dying(route):
            return await answer_async(route, *request)

    # Their parameters are forwarded unchanged.
    routes.answer, routes.answer_async = call, call_async  # type: ignore[assignment]


def _shifted(now: Callable[[], datetime]) -> type[datetime]:
    class AnyDatetime(type):
        def __instancecheck__(cls, value: object) -> bool:
            return isinstance(value, datetime)

    class Shifted(datetime, metaclass=AnyDatetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
            return now().astimezone(tz)

    return Shifted


def _dying_after(left: int, code: str, die: Callable[[str], None]) -> Callable[[FrameType, str, Any], Any]:
    def line(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal left
        left -= event == "line"
        if left < 0:
            die(f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}")
        return line

    return lambda frame, _event, _: line if frame.f_code.co_filename.startswith(code) else None


def _die(home: Path, replica: str, where: str) -> None:
    with (home / "deaths.log").open("a") as deaths:
        deaths.write(f"{replica} {where}\n")
    os.kill(os.getpid(), signal.SIGKILL)


if "CHAOS_HOME" in os.environ:
    _begin(Path(os.environ["CHAOS_HOME"]), os.environ["CHAOS_SEED"], os.environ["CHAOS_REPLICA"])
