"""front: each function's routes at one address."""

from collections.abc import Callable
from typing import Any

import pytest

from functions import front as functions_front
from functions.runtime import logs
from tests.conftest import api_headers, callback_headers

pytestmark = pytest.mark.usefixtures("sqlite")


@pytest.fixture
def front(function: Callable[[str], Any]) -> Any:
    return function("front")


@pytest.fixture
def reached(environment: pytest.MonkeyPatch) -> list[str]:
    """Return the functions that have logged the access line of a request."""
    names: list[str] = []

    def log(_level: int, message: str, **_fields: object) -> None:
        if message == "answered":
            names.append(logs.context.get()["function"])

    environment.setattr(logs, "log", log)
    return names


def routes() -> list[tuple[str, str, str]]:
    """Return each route of each function, without the bare one that several share."""
    results = [(route.function, route.method, route.declared_path) for route in functions_front.API]
    return sorted((name, method, path) for name, method, path in results if path != "/")


@pytest.mark.parametrize(("name", "method", "path"), routes())
def test_every_route_of_every_function_reaches_that_function(
    front: Any, reached: list[str], name: str, method: str, path: str
) -> None:
    response = front.request(method, _filled(path))

    assert response.status_code == 401, response.text
    assert reached == [name]


@pytest.mark.parametrize("name", sorted({name for name, _, _ in routes()}))
def test_each_function_alone_serves_the_routes_that_the_front_has_of_it(
    function: Callable[[str], Any], name: str
) -> None:
    client = function(name)
    statuses = {client.request(method, _filled(path)).status_code for own, method, path in routes() if own == name}

    assert statuses == {401}


def test_a_bare_post_reaches_create_job(front: Any, reached: list[str]) -> None:
    front.post("/")

    assert reached == ["create_job"]


def _filled(path: str) -> str:
    return path.replace("{job_id}", "job-1")


def test_an_unknown_path_is_404(front: Any) -> None:
    assert front.get("/v2/jobs", headers=api_headers()).status_code == 404


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("DELETE", "/v1/jobs/job-1/heartbeat", "POST"),
        ("PUT", "/v1/jobs", "GET, HEAD, POST"),
        ("POST", "/v1/jobs/job-1", "DELETE, GET, HEAD, PATCH"),
        ("POST", "/healthz", "GET, HEAD"),
        ("GET", "/v1/sweep", "POST"),
        ("TRACE", "/v1/jobs/job-1", "DELETE, GET, HEAD, PATCH"),
        ("PROPFIND", "/healthz", "GET, HEAD"),
    ],
)
def test_another_method_is_405_and_allow_names_all_of_the_path(
    front: Any, method: str, path: str, allowed: str
) -> None:
    response = front.request(method, path, headers=callback_headers("job-1"))

    assert (response.status_code, response.headers["Allow"]) == (405, allowed)
    assert response.headers["Content-Type"] == "application/problem+json"
    assert allowed in response.json()["detail"]


@pytest.mark.parametrize("name", ["jobs", "create_job"])
def test_allow_names_the_methods_that_another_function_serves(function: Callable[[str], Any], name: str) -> None:
    response = function(name).put("/v1/jobs")

    assert (response.status_code, response.headers["Allow"]) == (405, "GET, HEAD, POST")


def test_health_needs_no_token(front: Any) -> None:
    assert (front.get("/healthz").status_code, front.get("/healthz").content) == (200, b"ok\n")
