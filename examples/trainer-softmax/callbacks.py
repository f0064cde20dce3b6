"""The calls from a job to the functions: queued, sent in order by a thread, and repeated until each has arrived."""

import json
import logging
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any, NamedTuple

import requests

from console import timestamp
from storage import RETRIED, RefusedError, message_of, new_session

CALL_LIMIT = 1_000
LONGEST_PAUSE_SECONDS = 30.0
log = logging.getLogger("trainer")


class Call(NamedTuple):
    """A callback in the queue. A retry repeats the headers, so that it counts once."""

    name: str
    body: dict[str, Any]
    headers: dict[str, str]


class Callbacks:
    """The callbacks of one job. ``read_token`` returns the current token, and ``hide`` keeps it out of the output."""

    def __init__(
        self, url: str, job_id: str, trace_id: str, read_token: Callable[[], str], hide: Callable[[str], None]
    ) -> None:
        self.attempt: int | None = None  # known from the first response
        self.is_refused = False  # the job is over: 409 or 404
        self.is_done = False  # ``done`` has arrived
        self.lock = threading.RLock()  # also guards the measurements for heartbeats: one thread at a time
        self._changed = threading.Condition(self.lock)
        self._calls, self._is_over = list[Call](), False
        self._url, self._job_id, self._trace_id = f"{url.rstrip('/')}/v1/jobs/{job_id}", job_id, trace_id
        self._source, self._http = f"/trainers/{job_id}/{uuid.uuid4()}", new_session()
        self._read_token, self._hide, self._token = read_token, hide, ""
        self._use(read_token())

    def _use(self, token: str | None) -> None:
        if token and token != self._token:
            self._hide(token)
            self._token = token

    def add(self, name: str, body: dict[str, Any]) -> None:
        """Send this soon. A heartbeat replaces the one that is still in the queue."""
        try:  # the numbers of numpy and torch become plain ones
            plain = json.dumps(body, allow_nan=False, default=lambda value: getattr(value, "item", value.__str__)())
        except ValueError as error:
            log.warning("%s cannot be sent as JSON: %s", name, error)
            return
        call = Call(name, json.loads(plain), {"ce-id": str(uuid.uuid4()), "ce-time": timestamp()})
        with self._changed:
            if name == "heartbeat":
                self._calls = [waiting for waiting in self._calls if waiting.name != name]
            if not self._is_over and (len(self._calls) < CALL_LIMIT or name == "done"):
                self._calls.append(call)
            self._changed.notify_all()

    def wait(self, seconds: float) -> None:
        """Wait until all are sent."""
        with self._changed:
            self._changed.wait_for(lambda: not self._calls, seconds)

    def send_all(self, beat: Callable[[], None], beat_seconds: float) -> None:
        """Send queued calls until the job is over; call ``beat`` when the queue stayed empty for this long."""
        failures = 0
        while not self._is_over:
            call = self._next(beat, beat_seconds)
            failures = 0 if self._is_settled(call, failures) else failures + 1
            with self._changed:
                self._is_over = self.is_refused or (call.name == "done" and not failures)
                self._calls = [] if self._is_over else [one for one in self._calls if failures or one is not call]
                self._changed.notify_all()
            time.sleep(pause_seconds(failures))

    def _next(self, beat: Callable[[], None], beat_seconds: float) -> Call:
        with self._changed:
            while not self._changed.wait_for(lambda: self._calls, beat_seconds):
                beat()  # nothing new: report that this process is alive
            return self._calls[0]

    def _is_settled(self, call: Call, failures: int) -> bool:
        """Send a call; return False if it must be sent again."""
        try:
            attempt = {"attempt": self.attempt} if self.attempt else {}
            status, content = self._post(call.name, call.body | attempt, call.headers)
        except Exception as error:  # noqa: BLE001 -- no failure may end the training
            log.warning("%s was not delivered (%s); trying again", call.name, message_of(error))
            return False
        self.is_done = call.name == "done" and status == HTTPStatus.OK
        if status != HTTPStatus.OK:
            log.warning("%s was refused with %d: %s", call.name, status, content.get("detail"))
        is_broken_by_it = status == HTTPStatus.INTERNAL_SERVER_ERROR and failures > 0 and call.name != "done"
        return is_broken_by_it or status not in {401, 408, *RETRIED}

    def _post(self, name: str, body: dict[str, Any], headers: Mapping[str, str]) -> tuple[int, dict[str, Any]]:
        """Return the functions' status and JSON. Raises for a gateway's response, which says nothing about the job."""
        event = {
            "ce-specversion": "1.0",
            "ce-type": f"dev.stoker.trainer.{name}",
            "ce-source": self._source,
            "ce-subject": self._job_id,
            "traceparent": f"00-{self._trace_id}-{uuid.uuid4().hex[:16]}-01",
            **headers,
            "authorization": f"Bearer {self._token}",
        }
        response = self._http.post(f"{self._url}/{name}", json=body, headers=event, timeout=(5, 30))
        if not response.ok and "application/problem+json" not in response.headers.get("content-type", ""):
            raise requests.HTTPError(f"response {response.status_code}, not from the functions")
        content = dict(response.json())
        is_refused_token = response.status_code == HTTPStatus.UNAUTHORIZED
        self._use(self._read_token() if is_refused_token else content.get("token"))
        if response.ok and self.attempt is None:
            self.attempt = content.get("attempt")
        self.is_refused |= response.status_code in {404, 409}
        return response.status_code, content

    def presign(self, **body: Any) -> dict[str, Any]:
        """Return links to an object. Raises: RefusedError; HTTPError, if a later try may succeed."""
        status, content = self._post("presign", body, {})
        if status != HTTPStatus.OK:
            refused = status in {404, 409, 413, 422}
            raise (RefusedError if refused else requests.HTTPError)(f"presign: {status}: {content.get('detail')}")
        return content


def pause_seconds(failures: int) -> float:
    """Return the pause before the next try, after this number of consecutive failures."""
    return min(0.25 * 2.0 ** min(failures, 10), LONGEST_PAUSE_SECONDS) if failures else 0.0
