"""Each function is a target of functions-framework: its own command serves it, as the README says."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from functions.front import API
from tests.conftest import ROOT, eventually, free_ports, is_up

NAMES = sorted({route.function for route in API} | {"front"})


def test_the_readme_shows_this_command() -> None:
    assert "functions-framework --target heartbeat --source functions/heartbeat.py" in (ROOT / "README.md").read_text()


@pytest.mark.parametrize("name", NAMES)
def test_the_framework_s_own_command_serves_each_function(name: str) -> None:
    address = f"http://127.0.0.1:{(port := free_ports(1)[0])}"
    framework = str(Path(sys.executable).with_name("functions-framework"))
    command = [
        framework,
        "--target",
        name,
        "--source",
        f"functions/{name}.py",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
    ]
    environment = {**os.environ, "WORKERS": "1", "LOG_FORMAT": "json"}
    process = subprocess.Popen(
        command, cwd=ROOT, env=environment, start_new_session=True, stderr=subprocess.PIPE, text=True
    )
    try:
        eventually(lambda: is_up(address), within_seconds=60)
        route = next(one for one in API if name in {one.function, "front"})
        path = route.declared_path.replace("{job_id}", "job-1")
        refused = httpx.request(route.method, f"{address}{path}", timeout=60)
        wrong = httpx.request("PUT", f"{address}{path}", timeout=60)
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        _, errors = process.communicate()

    assert (refused.status_code, refused.headers["Content-Type"]) == (401, "application/problem+json")
    lines = [json.loads(line) for line in errors.splitlines() if line.startswith('{"at"')]
    assert any(line["status"] == 401 and line["trace_id"] for line in lines if "refused" in line["message"])
    assert (wrong.status_code, route.method in wrong.headers["Allow"].split(", ")) == (405, True)
