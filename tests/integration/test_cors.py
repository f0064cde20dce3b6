"""Pages of configured origins may call the functions from a browser, and no others."""

from collections.abc import Callable
from typing import Any

import pytest

from functions.domain.errors import ConfigurationError
from functions.runtime import configuration
from tests.conftest import api_headers, forget

ORIGIN = "https://console.example.com"
PREFLIGHT = {
    "Origin": ORIGIN,
    "Access-Control-Request-Method": "PATCH",
    "Access-Control-Request-Headers": "authorization",
}


@pytest.fixture
def client(function: Callable[[str], Any], environment: pytest.MonkeyPatch, sqlite: str) -> Callable[[str], Any]:
    def client(origins: str) -> Any:
        environment.setenv("DATABASE_URL", sqlite)
        environment.setenv("CORS_ORIGINS", origins)
        forget()
        return function("jobs")

    return client


@pytest.mark.parametrize("origins", [ORIGIN, f"http://localhost:5173, {ORIGIN}/", "*"])
def test_a_page_of_a_configured_origin_may_call(client: Any, origins: str) -> None:
    jobs = client(origins)
    preflight = jobs.request("OPTIONS", "/v1/jobs/x", headers=PREFLIGHT)
    listed = jobs.get("/v1/jobs", headers=api_headers() | {"Origin": ORIGIN})
    refused = jobs.get("/v1/jobs/none", headers=api_headers() | {"Origin": ORIGIN})

    assert preflight.status_code == 200
    assert "PATCH" in preflight.headers["access-control-allow-methods"]
    for response in (preflight, listed, refused):
        assert response.headers["access-control-allow-origin"] in {ORIGIN, "*"}
        assert "access-control-allow-credentials" not in response.headers
    assert "ETag" in listed.headers["access-control-expose-headers"]
    assert (listed.status_code, refused.status_code) == (200, 404)


@pytest.mark.parametrize("origins", ["", "https://other.example.com"])
def test_a_page_of_another_origin_may_not(client: Any, origins: str) -> None:
    jobs = client(origins)
    listed = jobs.get("/v1/jobs", headers=api_headers() | {"Origin": ORIGIN})

    assert jobs.request("OPTIONS", "/v1/jobs/x", headers=PREFLIGHT).status_code in {400, 405}
    assert "access-control-allow-origin" not in listed.headers


@pytest.mark.parametrize("origins", ["console.example.com", "https://a.example.com/path", "ftp://x"])
def test_an_invalid_origin_is_a_configuration_error(environment: pytest.MonkeyPatch, origins: str) -> None:
    environment.setenv("CORS_ORIGINS", origins)
    forget()

    with pytest.raises(ConfigurationError, match="CORS_ORIGINS"):
        configuration.check()
