"""front: each function's routes at one address."""

from collections.abc import Callable
from typing import Any

import pytest

from functions import logs, web
from tests.conftest import api_headers, callback_headers

pytestmark = pytest.mark.usefixtures("sqlite")


@pytest.fixture
def front(function: Callable[[str], Any]) -> Any:
    return function("front")


def routes() -> list[tuple[str, str, str]]:
    """Return each route of each function, but for the bare one that several share."""
    import functions.front  # noqa: F401 -- it fills the table

    found = [(own.__name__, *route.split(maxsplit=1)) for own, routes in web._routes.items() for route in routes]
    return sorted((name, method, path) for name, method, path in found if path != "/")


@pytest.mark.parametrize(("name", "method", "path"), routes())
def test_every_route_of_every_function_reaches_that_function(front: Any, name: str, method: str, path: str) -> None:
    answer = front.open(_filled(path), method=method)

    assert answer.status_code == 401, answer.json
    assert logs.about.get()["function"] == name


def test_a_bare_post_reaches_create_job(front: Any) -> None:
    front.post("/")

    assert logs.about.get()["function"] == "create_job"


def _filled(path: str) -> str:
    return path.replace("{job_id}", "job-1")


def test_what_none_of_them_knows_is_404_and_another_method_405(front: Any) -> None:
    assert front.get("/v2/jobs", headers=api_headers()).status_code == 404
    assert front.delete("/v1/jobs/job-1/heartbeat", headers=callback_headers("job-1")).status_code == 405


def test_health_needs_no_token(front: Any) -> None:
    assert (front.get("/healthz").status_code, front.get("/healthz").data) == (200, b"ok\n")
