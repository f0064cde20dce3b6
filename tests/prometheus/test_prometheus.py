"""A real Prometheus scrapes the metrics with the documented configuration, and evaluates the alerts and the dashboard.

Needs Debian's package ``prometheus``, or both programs of a release in PATH.
"""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from functions.api import tokens
from functions.domain.states import State
from functions.store import upkeep
from tests.conftest import ROOT, eventually, free_ports, seconds, served_and_up

COMPONENT = ROOT / "knative/components/metrics"
DASHBOARD = json.loads((COMPONENT / "dashboard.json").read_text())


def program(name: str) -> str:
    path = shutil.which(name)
    assert path, f"there is no {name} in PATH: apt-get install prometheus"
    return path


def rules() -> dict[str, Any]:
    """Return the alerts as Prometheus itself reads them."""
    spec: dict[str, Any] = yaml.safe_load((COMPONENT / "rules.yaml").read_text())["spec"]
    return spec


@pytest.fixture
def rule_file(tmp_path: Path) -> Path:
    """Write the alerts into a file of rules."""
    path = tmp_path / "rules.yaml"
    path.write_text(yaml.safe_dump(rules()))
    return path


def test_the_alerts_fire_when_they_should_and_not_otherwise(rule_file: Path) -> None:
    (rule_file.parent / "rules_test.yaml").write_text((Path(__file__).parent / "rules_test.yaml").read_text())
    for words in (["check", "rules", "rules.yaml"], ["test", "rules", "rules_test.yaml"]):
        done = subprocess.run(
            [program("promtool"), *words], cwd=rule_file.parent, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_has_a_test() -> None:
    tested = (Path(__file__).parent / "rules_test.yaml").read_text()
    fired = {
        one["alertname"]
        for test in yaml.safe_load(tested)["tests"]
        for one in test["alert_rule_test"]
        if one.get("exp_alerts")
    }
    assert {rule["alert"] for group in rules()["groups"] for rule in group["rules"]} == fired


def documented_scrape() -> dict[str, Any]:
    """Return the scrape configuration of docs/OPERATIONS.md."""
    (text,) = re.findall(r"```yaml\n(scrape_configs:\n.*?)```", (ROOT / "docs/OPERATIONS.md").read_text(), re.DOTALL)
    (job,) = yaml.safe_load(text)["scrape_configs"]
    return dict(job)


def test_the_documented_scrape_is_the_components() -> None:
    spec, job = yaml.safe_load((COMPONENT / "scrape.yaml").read_text())["spec"], documented_scrape()

    assert (job["job_name"], job["metrics_path"]) == (spec["jobName"], spec["metricsPath"])
    assert (job["scrape_interval"], job["scrape_timeout"]) == (spec["scrapeInterval"], spec["scrapeTimeout"])
    assert job["static_configs"] == spec["staticConfigs"]


@contextmanager
def prometheus(folder: Path, configuration: dict[str, Any]) -> Iterator[httpx.Client]:
    """Run a Prometheus; yields a client of its API."""
    (folder / "prometheus.yaml").write_text(yaml.safe_dump(configuration))
    (port,) = free_ports(1)
    flags = [f"--config.file={folder}/prometheus.yaml", f"--storage.tsdb.path={folder}/data"]
    flags += [f"--web.listen-address=127.0.0.1:{port}"]
    with (folder / "prometheus.log").open("wb") as log:
        process = subprocess.Popen([program("prometheus"), *flags], stdout=log, stderr=log)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}/api/v1", timeout=30) as client:
            eventually(lambda: is_up(client), within_seconds=120)
            yield client
    finally:
        process.kill()
        process.wait()


def is_up(client: httpx.Client) -> bool:
    try:
        return client.get("/status/buildinfo").is_success
    except httpx.TransportError:
        return False


def query(client: httpx.Client, expression: str) -> list[dict[str, Any]]:
    """Return the series that an expression has now."""
    response = client.get("/query", params={"query": expression})
    assert response.is_success, f"{expression}: {response.text}"
    series: list[dict[str, Any]] = response.json()["data"]["result"]
    return series


def expressions() -> list[str]:
    """Return the dashboard's queries, with its variable set to all."""
    return [target["expr"].replace("$framework", ".*") for panel in DASHBOARD["panels"] for target in panel["targets"]]


@pytest.mark.usefixtures("sqlite")
def test_a_prometheus_scrapes_evaluates_and_fires(a_job: Any, tmp_path: Path, now: datetime, rule_file: Path) -> None:
    for state in (State.PENDING, State.QUEUED, State.SUCCEEDED, State.FAILED):
        a_job(state, now=now - seconds(7_200))
    silent = a_job(State.RUNNING, now=now - seconds(7_200))
    upkeep.note_silence(silent, since=now, now=now)
    upkeep.take_lease(now=now - seconds(3_600), lasting=seconds(50), away_after=seconds(300))  # and no sweep since
    upkeep.reject("a reason", "a body", now=now)
    alerts = rules()
    for rule in (rule for group in alerts["groups"] for rule in group["rules"]):
        rule.pop("for", None)
    rule_file.write_text(yaml.safe_dump(alerts))
    token = tmp_path / "token"
    token.write_text(tokens.mint_api("prometheus", "metrics:read", 3_600, now=tokens.now()))

    with served_and_up("metrics", {"K_SINK": "http://127.0.0.1:9/"}) as address:
        job = documented_scrape() | {"scrape_interval": "1s", "scrape_timeout": "1s"}
        job["static_configs"] = [{"targets": [address.removeprefix("http://")]}]
        job["authorization"] = job["authorization"] | {"credentials_file": str(token)}
        configuration = {
            "global": {"evaluation_interval": "1s"},
            "rule_files": [str(rule_file)],
            "scrape_configs": [job | {"scrape_interval": "5s", "scrape_timeout": "5s"}],
        }
        with prometheus(tmp_path, configuration) as client:
            eventually(
                lambda: len(query(client, "count_over_time(stoker_outbox_events[10m]) >= 3")), within_seconds=200
            )
            (target,) = client.get("/targets").json()["data"]["activeTargets"]
            assert (target["health"], target["lastError"]) == ("up", "")
            fired = eventually(lambda: firing(client), within_seconds=60)
            empty = [text for text in expressions() if not query(client, text)]

    assert fired == {
        *("StokerSweepStopped", "StokerEventsNotDelivered", "StokerJobsNotLaunched", "StokerJobsSilent"),
    }
    # What failed or was rejected before the first scrape is no increase.
    assert all("> 0" in text for text in empty), empty


def firing(client: httpx.Client) -> set[str]:
    return {
        alert["labels"]["alertname"]
        for alert in client.get("/alerts").json()["data"]["alerts"]
        if alert["state"] == "firing" and alert["labels"]["severity"] != "info"
    }


def test_the_dashboards_panels_do_not_overlap_and_have_a_title() -> None:
    cells = [
        (x, y)
        for panel in DASHBOARD["panels"]
        for box in [panel["gridPos"]]
        for x in range(box["x"], box["x"] + box["w"])
        for y in range(box["y"], box["y"] + box["h"])
    ]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24
    assert all(panel["title"] and panel["targets"] for panel in DASHBOARD["panels"])
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
