"""The OpenAPI description matches the functions: routes, models, and responses to valid and invalid requests."""

import itertools
import json
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import CHECKS

from functions.domain.states import State
from functions.front import API
from infra import openapi
from tests.attack.conftest import Server, attacked
from tests.conftest import a_database, api_headers, callback_headers

EXAMPLES = 15
#: of parts that this server lacks: the storage and a Broker
AWAY = {"GET /v1/jobs/{job_id}/artifacts", "POST /v1/uploads"}
CHECKED = ("status_code_conformance", "content_type_conformance", "response_schema_conformance")
OPERATIONS = {
    f"{method.upper()} {path}": (path, method)
    for path, methods in openapi.description()["paths"].items()
    for method in methods
}
SCHEMA = schemathesis.openapi.from_dict(json.loads(openapi.text()))


def test_the_file_matches_the_routes_and_models() -> None:
    assert openapi.FILE.read_text() == openapi.text(), "run ./taskw openapi"


def test_patterns_are_valid_in_javascript() -> None:
    assert re.findall(r'"pattern": ".*\\Z.*"', openapi.text()) == []  # in JavaScript an error, or the letter Z


def test_every_route_is_described() -> None:
    assert OPERATIONS.keys() == {f"{one.method} {one.declared_path}" for one in API if one.declared_path != "/"}


def test_operations_have_distinct_names_for_generators() -> None:
    names = [one["operationId"] for path in openapi.description()["paths"].values() for one in path.values()]

    assert len(set(names)) == len(names)
    assert all(name.isidentifier() for name in names)


def test_no_schema_overwrites_another_and_fields_with_defaults_are_optional() -> None:
    schemas = openapi.description()["components"]["schemas"]

    assert schemas["State"]["enum"] == sorted(State)
    assert schemas["Job"]["properties"]["state"] == {"$ref": "#/components/schemas/State"}
    assert schemas["Artifacts"]["properties"]["artifacts"]["items"] == {"$ref": "#/components/schemas/Artifact"}
    assert schemas["Spec"]["required"] == ["dataset_id"]


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Serve all functions, on each database."""
    with ExitStack() as parts:
        url: dict[str, str] = {}
        if request.param == "postgresql":
            url = {"DATABASE_URL": parts.enter_context(a_database(request.getfixturevalue("postgresql_server")))}
        s3 = request.getfixturevalue("s3_server")
        yield parts.enter_context(attacked(tmp_path_factory.mktemp(request.param), s3, **url))


@pytest.fixture(scope="module")
def jobs(server: Server) -> list[str]:
    requested = {"framework": "stub", "model_name": "stub-1", "dataset_id": "digits"}
    answers = [
        httpx.post(f"{server.address}/v1/jobs", json=requested, headers=api_headers(), timeout=60) for _ in range(3)
    ]
    return [answer.raise_for_status().json()["id"] for answer in answers]


def test_the_description_needs_a_token_and_is_the_file(server: Server) -> None:
    url = f"{server.address}/v1/openapi.json"

    assert httpx.get(url, timeout=60).status_code == 401
    assert httpx.get(url, headers=api_headers("jobs:read"), timeout=60).json() == openapi.description()


@pytest.mark.timeout(300)
@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=["fitting", "unfitting"])
@pytest.mark.parametrize("name", sorted(OPERATIONS))
def test_valid_and_invalid_requests_get_the_described_responses(
    server: Server, jobs: list[str], name: str, mode: GenerationMode
) -> None:
    path, method = OPERATIONS[name]
    operation, numbers, statuses = SCHEMA[path][method.upper()], itertools.count(), Counter[int]()
    if mode == GenerationMode.NEGATIVE and not (operation.body or operation.query):
        mode = GenerationMode.POSITIVE  # only the job's ID can be invalid, and it is drawn below

    @settings(
        max_examples=EXAMPLES, derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck)
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def tried(case: Any) -> None:
        number = next(numbers)
        if "job_id" in path:
            case.path_parameters["job_id"] = (*jobs, "job-unknown")[number % 4]
        if name == "POST /v1/jobs" and isinstance(case.body, dict) and number % 2:
            case.body = case.body | {"framework": "stub", "dataset_id": "digits"}
        job_id = (case.path_parameters or {}).get("job_id", "")
        is_callback = operation.definition.raw["security"] == [{"callback": []}]
        headers = callback_headers(job_id) if is_callback else api_headers()
        answer = case.call(base_url=server.address, headers=headers, timeout=60)
        statuses[answer.status_code] += 1
        assert answer.status_code < 500 or (answer.status_code == 503 and name in AWAY), answer.text
        case.validate_response(answer, checks=[CHECKS.get_one(check) for check in CHECKED])

    tried()
    assert statuses.total() > 0
