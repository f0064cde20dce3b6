"""Each function has a Service in a cluster, and the front and the Gateway route its paths to it."""

import re
from collections.abc import Callable
from typing import Any

import pytest
import yaml

from functions import front as functions_front
from tests.conftest import ROOT

#: functions that only events of the cluster call; they have no public path
INTERNAL = {"sweep", "dead-letter"}
HOST = "{}.stoker.svc.cluster.local"


def documents(path: str) -> list[dict[str, Any]]:
    return [*yaml.safe_load_all((ROOT / "knative" / path).read_text())]


def endpoints() -> dict[str, list[tuple[str, str]]]:
    """Return the routes of each function, without the bare one that several share."""
    results: dict[str, list[tuple[str, str]]] = {}
    for route in functions_front.ROUTES:
        if route.declared_path != "/":
            results.setdefault(route.function.replace("_", "-"), []).append((route.method, route.declared_path))
    return results


ROUTES = [(name, method, path) for name, routes in endpoints().items() for method, path in routes]
PUBLIC = [route for route in ROUTES if route[0] not in INTERNAL]


def test_each_function_is_a_service_and_each_service_a_function() -> None:
    modules = {file.stem.replace("_", "-") for file in ROOT.glob("functions/*.py") if "\n@route(" in file.read_text()}
    services = {
        document["metadata"]["name"]: document["spec"]["template"]["spec"]
        for document in documents("base/functions.yaml")
    }
    assert services.keys() == modules == endpoints().keys()

    for name, spec in services.items():
        variables = {one["name"]: one["value"] for one in spec["containers"][0]["env"]}
        assert variables["FUNCTION_TARGET"] == name.replace("-", "_")


def test_the_one_service_replaces_all_others() -> None:
    (component,) = documents("components/one-service/kustomization.yaml")
    removed = next(one["target"]["name"] for one in component["patches"] if "|" in one["target"]["name"])

    assert {*removed.split("|"), "create-job"} == endpoints().keys()


def front() -> Callable[[str, str], str | None]:
    """Return a function that maps a request to our Envoy's host: the first route that matches."""
    config = yaml.safe_load((ROOT / "knative/base/envoy.yaml").read_text())
    (listener,) = config["static_resources"]["listeners"]
    manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
    routes = manager["route_config"]["virtual_hosts"][0]["routes"]

    def matches(match: dict[str, Any], method: str, path: str) -> bool:
        headers = match.get("headers", [])
        assert all(header["name"] == ":method" for header in headers)
        return (
            all(header["string_match"]["exact"] == method for header in headers)
            and match.get("path", path) == path
            and path.startswith(match.get("prefix", ""))
            and f"{path}/".startswith(f"{match.get('path_separated_prefix', '')}/")
            and re.fullmatch(match.get("safe_regex", {"regex": ".*"})["regex"], path) is not None
        )

    def host(method: str, path: str) -> str | None:
        route = next((one.get("route") for one in routes if matches(one["match"], method, path)), None)
        return route["host_rewrite_literal"] if route else None

    return host


def gateway() -> Callable[[str, str], str | None]:
    """Return a function that maps a request to a Gateway's host: the only rule that matches."""
    (route,) = documents("components/gateway/routes.yaml")

    def matches(match: dict[str, Any], method: str, path: str) -> bool:
        value = match["path"]["value"]
        is_path = {
            "Exact": path == value,
            "RegularExpression": re.fullmatch(value, path) is not None,
            "PathPrefix": path == value or path.startswith(f"{value}/"),
        }[match["path"]["type"]]
        return bool(is_path and match["method"] == method)

    def host(method: str, path: str) -> str | None:
        hosts = [
            rule["filters"][0]["urlRewrite"]["hostname"]
            for rule in route["spec"]["rules"]
            for match in rule["matches"]
            if matches(match, method, path)
        ]
        assert len(hosts) < 2, "which rule wins depends on the Gateway's implementation"
        return hosts[0] if hosts else None

    return host


ENTRIES = {"front": front(), "gateway": gateway()}


def filled(path: str) -> str:
    return re.sub(r"\{\w+\}", "job-1", path)


@pytest.mark.parametrize("entry", ENTRIES)
@pytest.mark.parametrize(("name", "method", "path"), PUBLIC)
def test_each_path_leads_to_its_function(entry: str, name: str, method: str, path: str) -> None:
    assert ENTRIES[entry](method, filled(path)) == HOST.format(name)


@pytest.mark.parametrize("path", sorted({path for _, _, path in PUBLIC}))
def test_another_method_leads_to_a_function_of_that_path_which_answers_405(path: str) -> None:
    hosts = {HOST.format(name) for name, _, own in PUBLIC if own == path}

    assert ENTRIES["front"]("PUT", filled(path)) in hosts


@pytest.mark.parametrize("entry", ENTRIES)
def test_the_bare_address_leads_to_the_console(entry: str) -> None:
    assert ENTRIES[entry]("GET", "/") == HOST.format("console")


@pytest.mark.parametrize("entry", ENTRIES)
@pytest.mark.parametrize(("name", "method", "path"), [route for route in ROUTES if route[0] in INTERNAL])
def test_no_path_leads_to_what_only_events_call(entry: str, name: str, method: str, path: str) -> None:
    assert ENTRIES[entry](method, filled(path)) != HOST.format(name)


@pytest.mark.parametrize("file", ["base/envoy.yaml", "components/gateway/routes.yaml"])
def test_every_host_of_an_entry_is_a_function(file: str) -> None:
    hosts = set(re.findall(r"([a-z-]+)\.stoker\.svc\.cluster\.local", (ROOT / "knative" / file).read_text()))

    assert hosts == endpoints().keys() - INTERNAL
