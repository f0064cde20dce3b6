"""The keys of tokens are rotated in two steps: each function reads its mounted Secret again, and none is restarted."""

import json
import secrets
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from infra.local.minting import mint
from infra.node.layout import kubectl
from tests.node.conftest import STOKER, address_of, eventually, get, report

pytestmark = pytest.mark.timeout(900)
#: the kubelet looks at a mounted Secret once a minute or so
REFRESH_SECONDS = 240


@pytest.fixture
def rotate() -> Callable[[str], None]:
    """Return what changes the keys in the Secret. No key is removed after the test: jobs may hold tokens of each."""

    def change(keys: str) -> None:
        patch = json.dumps({"stringData": {"JWT_SECRETS": keys}})
        kubectl("patch", "secret", "stoker", "-n", STOKER, "--type=merge", "-p", patch)

    return change


@pytest.fixture
def status() -> Callable[[str], int]:
    """Return what lists jobs with a token that some keys sign, and returns the response's status."""
    front = address_of("front")

    def read(keys: str) -> int:
        headers = {"Authorization": f"Bearer {mint(keys, 'tester', 'jobs:read', 600)}"}
        return httpx.get(f"{front}/v1/jobs", headers=headers, timeout=90).status_code

    return read


def running_pods() -> list[dict[str, Any]]:
    pods = get("pods", "-l", "serving.knative.dev/service=jobs", "--field-selector", "status.phase=Running")
    return [pod for pod in pods if "deletionTimestamp" not in pod["metadata"]]


def first_key(pod: str) -> str:
    """Return the ``kid`` that a function's pod signs with."""
    look = "from functions.runtime.settings import jwt_secrets; print(next(iter(jwt_secrets())))"
    return kubectl("exec", pod, "-n", STOKER, "-c", "function", "--", "python", "-c", look).strip()


def test_keys_are_rotated_in_two_steps_while_a_function_runs(
    rotate: Callable[[str], None], status: Callable[[str], int], secret: dict[str, str]
) -> None:
    kid = f"rotated-{secrets.token_hex(4)}"
    old, new = secret["JWT_SECRETS"], f"{kid}:{secrets.token_urlsafe(48)}"
    assert (status(old), status(new)) == (200, 401)
    (before,) = running_pods()

    def accepts_both() -> bool:
        assert status(old) == 200
        return status(new) == 200

    def signs_with_the_new_one() -> bool:
        assert (status(old), status(new)) == (200, 200)
        return first_key(before["metadata"]["name"]) == kid

    for keys, done in ((f"{old},{new}", accepts_both), (f"{new},{old}", signs_with_the_new_one)):
        rotate(keys)
        began = time.time()
        eventually(done, within_seconds=REFRESH_SECONDS)
        report(f"{done.__name__}: {time.time() - began:.0f} s after the Secret changed")

    (after,) = running_pods()
    assert after["metadata"]["uid"] == before["metadata"]["uid"]
    assert [one["restartCount"] for one in after["status"]["containerStatuses"]] == [0, 0]
