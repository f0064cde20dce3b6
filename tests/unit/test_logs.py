"""Logs are readable for people and programs, and contain no secrets."""

import io
import json
import logging
from collections.abc import Callable, Iterator

import pytest

from functions.api import tokens
from functions.domain.errors import ConfigurationError
from functions.runtime import logs


@pytest.fixture
def lines(request: pytest.FixtureRequest) -> Iterator[Callable[[], str]]:
    """Collect what is logged, in the format that the test's parameter names."""
    output = io.StringIO()
    handler = logging.StreamHandler(output)
    handler.setFormatter(logs._Line(as_json=request.param == "json"))
    logger = logging.getLogger("stoker")
    handlers = logger.handlers[:]
    logger.handlers[:] = [handler]
    logger.setLevel(logging.INFO)
    logs.context.set({"function": "done", "trace_id": "f" * 32})
    yield output.getvalue
    logger.handlers[:] = handlers


@pytest.mark.parametrize("lines", ["json"], indirect=True)
def test_in_production_each_line_is_one_json_object_with_function_job_and_trace(lines: Callable[[], str]) -> None:
    logs.bind(job_id="job-1")
    logs.log(logging.WARNING, "refused\n{fake}", status=409, detail='quote " and\nnewline')
    (line,) = map(json.loads, lines().splitlines())

    assert line["message"] == f"[TRACE:{'f' * 32}] refused\n{{fake}}"
    assert {name: line[name] for name in ("severity", "function", "job_id", "status")} == {
        "severity": "WARNING",
        "function": "done",
        "job_id": "job-1",
        "status": 409,
    }


@pytest.mark.parametrize("lines", ["text"], indirect=True)
def test_on_a_terminal_no_value_can_pretend_to_be_a_line_of_its_own(lines: Callable[[], str]) -> None:
    logs.log(logging.INFO, "refused", detail="x\n2026-01-01T00:00:00Z INFO    all is well\x1b[2J")
    first, second = lines().splitlines()

    assert f"[TRACE:{'f' * 32}] refused function=done" in first
    assert second.startswith("  | ")
    assert "\x1b" not in lines()


@pytest.mark.parametrize("lines", ["text"], indirect=True)
def test_on_a_terminal_unicode_cannot_break_or_reverse_a_line(lines: Callable[[], str]) -> None:
    logs.log(logging.WARNING, "refused", detail="a\u2028b\u2029c\u202ed\u2066e")

    assert len(lines().splitlines()) == 1
    assert r"a\u2028b\u2029c\u202ed\u2066e" in lines()


@pytest.mark.parametrize("lines", ["json"], indirect=True)
def test_a_failure_is_logged_with_its_traceback_in_one_line(lines: Callable[[], str]) -> None:
    try:
        {}["x"]  # type: ignore[index]  # it is what fails
    except KeyError:
        logs.log(logging.ERROR, "failed", exc_info=True)

    assert "KeyError: 'x'" in json.loads(lines())["error"]


def test_a_weak_or_missing_secret_stops_a_function_at_its_start(environment: pytest.MonkeyPatch) -> None:
    for secrets, message in [("", "JWT_SECRETS: set it"), ("a:short", "weak"), ("a:" + "x" * 64, "weak")]:
        environment.setenv("JWT_SECRETS", secrets)
        with pytest.raises(ConfigurationError, match=message) as refused:
            tokens.keys()
        assert "short" not in str(refused.value)
