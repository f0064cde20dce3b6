"""Callbacks (contract v1, "out"): queued by the training, sent by one thread, so that nobody's absence holds it up."""

import json
import logging
import threading
import time
import uuid
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

import requests

from contract.console import Console
from contract.settings import ConfigInvalidError, Identity, token_of
from contract.storage import RefusedError, backoff_seconds

log = logging.getLogger("callbacks")

TIMEOUT_SECONDS = (5, 30)  # to connect, to answer
PENDING_LIMIT = 1_000  # events kept while the functions are away
POISON_TRIES = 8  # an event that the functions fail on this often, while they are up, is dropped
BACKOFF_LIMIT_SECONDS = 30.0
RETRY_AFTER_LIMIT_SECONDS = 300.0
#: a gateway, a cold start, a busy store: says nothing of the call itself
AWAY = {HTTPStatus.NOT_FOUND, HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE}


@dataclass
class Call:
    """One callback. Its id stays the same however often it is tried, so that it counts once."""

    name: str  # event | heartbeat | done
    body: dict[str, Any]
    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    at: str = field(default_factory=lambda: f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%fZ}")
    refused: int = 0


class Callbacks:
    """Events in order, of heartbeats only the latest. Nothing here raises for what is away."""

    def __init__(self, identity: Identity, screen: Console) -> None:
        self._identity, self._screen = identity, screen
        self.stop = threading.Event()  #: set when the functions say that the job is not to go on
        self.attempt: int | None = None
        self._token = token_of(identity)
        self._source = f"/trainers/{identity.job_id}/{uuid.uuid4()}"
        self._changed = threading.Condition()
        self._events: deque[Call] = deque()
        self._beat = Call("heartbeat", {})
        self._beat_is_due = False
        self._is_over = False
        self.is_done = False  #: the functions have taken note of done

    def start(self) -> None:
        """Begin to send."""
        threading.Thread(target=self._send_for_ever, name="callbacks", daemon=True).start()

    def beat(self, body: dict[str, Any]) -> None:
        """Send this heartbeat instead of any older one."""
        with self._changed:
            self._beat, self._beat_is_due = Call("heartbeat", body), True
            self._changed.notify_all()

    def add_to_beat(self, **fields: Any) -> None:
        """Let the next heartbeat say this too; cheap enough for each batch."""
        with self._changed:
            if not self._beat_is_due:
                self._beat = Call("heartbeat", self._beat.body | fields)

    def queue(self, name: str, body: dict[str, Any]) -> None:
        """Send this after all that was queued before."""
        try:
            body = json.loads(json.dumps(body, allow_nan=False, default=_plain))
        except ValueError as error:
            log.warning("%s cannot be said in JSON and is left out: %s", name, error)
            return
        with self._changed:
            if len(self._events) < PENDING_LIMIT or name == "done":
                self._events.append(Call(name, body))
            self._changed.notify_all()

    def wait_until_sent(self, within_seconds: float) -> bool:
        """Wait for what is queued; return whether all of it has been heard."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._events, within_seconds)

    def link(self, method: str, key: str) -> str:
        """Ask the functions for a link to an object (STORAGE_TYPE=presigned).

        Raises:
            RefusedError: this trainer may not have that object.
            requests.RequestException: try again.
        """
        wanted = {"method": method, "key": key}
        answer = self._post("presign", wanted, {})
        if answer.status_code == HTTPStatus.UNAUTHORIZED:
            self._reload_token()
            answer = self._post("presign", wanted, {})
        if _is_ours(answer) and answer.status_code in {HTTPStatus.CONFLICT, HTTPStatus.UNPROCESSABLE_ENTITY}:
            raise RefusedError(f"presign was refused with {answer.status_code}: {answer.text[:300]}")
        if not answer.ok:
            raise requests.HTTPError(f"presign was answered with {answer.status_code}")
        return str(answer.json()["url"])

    def _send_for_ever(self) -> None:
        tries = 0
        while not self._is_over:
            call = self._next()
            pause_seconds = self._try(call, tries)
            if pause_seconds is None:
                tries = 0
                self._forget(call)
            else:
                tries += 1
                time.sleep(pause_seconds)

    def _next(self) -> Call:
        with self._changed:
            if not self._changed.wait_for(lambda: self._events or self._beat_is_due, self._identity.heartbeat_seconds):
                # Nothing new for so long: say at least that this process is alive.
                self._beat, self._beat_is_due = Call("heartbeat", self._beat.body), True
            # The last epoch's heartbeat goes before done, which ends the job.
            if not self._events or (self._events[0].name == "done" and self._beat_is_due):
                return self._beat
            return self._events[0]

    def _forget(self, call: Call) -> None:
        with self._changed:
            if self._events and self._events[0] is call:
                self._events.popleft()
            self._is_over = call.name == "done" or self.stop.is_set()
            if self._beat is call:  # else a newer one has come meanwhile
                self._beat_is_due = False
            if self._is_over:
                self._events.clear()
            self._changed.notify_all()

    def _try(self, call: Call, tries: int) -> float | None:
        """Send a call once. Return the seconds until the next try, or None: it was heard, or never will be."""
        pause_seconds = backoff_seconds(tries, BACKOFF_LIMIT_SECONDS)
        attempt = {} if self.attempt is None else {"attempt": self.attempt}
        try:
            answer = self._post(call.name, call.body | attempt, {"ce-id": call.id, "ce-time": call.at})
            if answer.ok:
                self._learn(answer.json())
                self.is_done = call.name == "done"
                return None
        except Exception as error:  # noqa: BLE001 -- whatever it is, the training goes on
            log.warning("%s was not heard (%s); trying again", call.name, type(error).__name__)
            return pause_seconds
        if _is_ours(answer) and answer.status_code in {HTTPStatus.CONFLICT, HTTPStatus.NOT_FOUND}:
            log.warning("%s was refused with %d: the job is not to go on", call.name, answer.status_code)
            self.stop.set()
            return None
        return self._pause(call, answer, pause_seconds)

    def _pause(self, call: Call, answer: requests.Response, pause_seconds: float) -> float | None:
        status = answer.status_code
        log.warning("%s was answered with %d", call.name, status)
        if status == HTTPStatus.UNAUTHORIZED:
            self._reload_token()
            return pause_seconds
        is_away = status in AWAY or not _is_ours(answer)
        call.refused += not is_away
        is_poison = call.refused >= POISON_TRIES and call.name != "done"
        if is_poison or (status < HTTPStatus.INTERNAL_SERVER_ERROR and not is_away):
            log.error("%s is given up: %s", call.name, answer.text[:500])
            return None
        after = answer.headers.get("retry-after", "")
        return max(pause_seconds, min(float(after), RETRY_AFTER_LIMIT_SECONDS)) if after.isdecimal() else pause_seconds

    def _learn(self, answer: dict[str, Any]) -> None:
        if self.attempt is None and isinstance(answer.get("attempt"), int):
            self.attempt = answer["attempt"]
        if answer.get("token"):
            self._token = str(answer["token"])
            self._screen.hide(self._token)

    def _reload_token(self) -> None:
        if self._identity.callback_token_file:
            with suppress(ConfigInvalidError):
                self._token = token_of(self._identity)
                self._screen.hide(self._token)

    def _post(self, name: str, body: dict[str, Any], headers: dict[str, str]) -> requests.Response:
        headers |= {
            "ce-specversion": "1.0",
            "ce-type": f"dev.stoker.trainer.{name}",
            "ce-source": self._source,
            "ce-subject": self._identity.job_id,
            "traceparent": f"00-{self._identity.trace_id}-{uuid.uuid4().hex[:16]}-01",
            "content-type": "application/json",
        }
        url = f"{self._identity.backend_base_url}/v1/jobs/{self._identity.job_id}/{name}"
        data = json.dumps(body, allow_nan=False, default=_plain)
        return requests.post(url, data, headers=headers, timeout=TIMEOUT_SECONDS, auth=self._authorize)

    def _authorize(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        # Not a plain header: requests would let a .netrc win over it.
        request.headers["authorization"] = f"Bearer {self._token}"
        return request


def _is_ours(answer: requests.Response) -> bool:
    """Whether the functions answered, which send every refusal as a problem; a gateway's says nothing of the job."""
    return "application/problem+json" in answer.headers.get("content-type", "")


def _plain(value: Any) -> Any:
    """Return a number of numpy or torch as JSON's, and all else as text."""
    return value.item() if hasattr(value, "item") else str(value)
