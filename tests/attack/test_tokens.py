"""Forged, expired, swapped, truncated and misused tokens are rejected, and break nothing.

100,000 by default are for ``./taskw attack``; CI tries fewer, which are the first of the same.
"""

import http.client
import itertools
import os
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest

from functions.api import tokens
from functions.api.requests import Request
from functions.domain.errors import Forbidden, Unauthenticated
from tests.attack.conftest import Server
from tests.attack.forgeries import JOB, Forgery, forgeries, head, of_api, of_job, signed

COUNT = int(os.environ.get("ATTACK_TOKENS", "20000"))
COUNT_BY_HTTP = max(COUNT // 10, 1_000)
SEED = int(os.environ.get("ATTACK_SEED", "1"))


def outcome(forgery: Forgery, gate: str) -> str:
    request = Request("POST", "/", "", {"authorization": forgery.header}, b"")
    try:
        if gate == "callback":
            tokens.require_callback(request, JOB)
        else:
            tokens.require_api(request, "jobs:read", "jobs:write", "datasets:notify")
    except (Unauthenticated, Forbidden) as refused:
        return type(refused).__name__
    return "in"


@pytest.mark.timeout(900)
def test_no_forged_token_is_accepted() -> None:
    outcomes: Counter[tuple[str, str]] = Counter()
    for forgery in itertools.islice(forgeries(SEED), COUNT):
        for gate in forgery.gates:
            verdict = outcome(forgery, gate)
            assert verdict != "in", (forgery, gate)
            outcomes[forgery.kind, verdict] += 1

    print(f"seed {SEED}: {COUNT} forgeries, {outcomes.total()} tries: {dict(sorted(outcomes.items()))}")
    assert len({kind for kind, _ in outcomes}) == 13


def test_the_tokens_that_forgeries_derive_from_are_accepted() -> None:
    for gate, claims in {"callback": of_job(JOB), "api": of_api()}.items():
        assert outcome(Forgery("", f"Bearer {signed(head(), claims)}"), gate) == "in"


@pytest.mark.timeout(900)
def test_no_forged_token_is_accepted_over_http(server: Server) -> None:
    sendable = [one for one in itertools.islice(forgeries(SEED), COUNT_BY_HTTP) if _is_sendable(one.header)]
    with ThreadPoolExecutor(8) as pool:
        statuses = Counter(
            itertools.chain.from_iterable(pool.map(_sent, itertools.repeat(server), _shares(sendable, 8)))
        )

    print(f"seed {SEED}: {len(sendable)} forgeries by HTTP: {dict(statuses)}")
    assert statuses.total() == len(sendable) > COUNT_BY_HTTP / 2
    assert set(statuses) <= {400, 401, 403, 431}


def _sent(server: Server, tried: list[Forgery]) -> list[int]:
    outcomes = []
    with closing(http.client.HTTPConnection(*server.place, timeout=60)) as connection:
        for number, forgery in enumerate(tried):
            calls = ("POST", f"/v1/jobs/{JOB}/event"), ("GET", "/v1/jobs"), ("POST", "/v1/jobs")
            method, path = calls[number % 3 if "api" in forgery.gates else 0]
            connection.request(method, path, headers={"Authorization": forgery.header.encode("latin-1")})
            answer = connection.getresponse()
            answer.read()
            outcomes.append(answer.status)
    return outcomes


def _is_sendable(header: str) -> bool:
    try:
        raw = header.encode("latin-1")
    except UnicodeEncodeError:
        return False
    # White space around a header's value does not belong to it (RFC 9110 §5.5), so the token would stay valid.
    return not set(raw) & set(b"\r\n\0") and raw == raw.strip(b" \t")


def _shares(outcomes: list[Forgery], count: int) -> list[list[Forgery]]:
    return [outcomes[number::count] for number in range(count)]
