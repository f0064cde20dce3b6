"""Audit what is installed: it is what the lock files say, by hash; and no known vulnerability, where that can be asked.

``python -m infra.local.audit`` exits with 1 when something is wrong, and says so plainly when it could not be asked.
"""

import importlib.metadata
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from packaging.markers import default_environment
from packaging.utils import canonicalize_name

from client.home import ROOT

LOCKS = ("uv.lock", "trainer-images/trainer-ultralytics/uv.lock", "trainer-images/trainer-timm/uv.lock")
_SHA256 = re.compile(r"sha256:[0-9a-f]{64}")
#: how pip-audit says that it asked and got no answer for a package
_NOT_ASKED = "skip_reason"
_TOOL = "pip-audit==2.10.1"
_ANSWERED = (0, 1)


def unhashed(lock: dict[str, Any]) -> list[str]:
    """Return the packages of a lock file of which a file has no SHA-256, or that have no file at all."""
    wrong = []
    for package in lock["package"]:
        if {"editable", "virtual", "directory"} & package["source"].keys():
            continue
        files = [*package.get("wheels", ()), *([package["sdist"]] if "sdist" in package else ())]
        if not files or not all(_SHA256.fullmatch(file.get("hash", "")) for file in files):
            wrong.append(f"{package['name']} {package.get('version', '')}")
    return wrong


def strangers(lock: dict[str, Any], installed: Mapping[str, str]) -> list[str]:
    """Return what is installed and is not in the lock file with that version."""
    locked = {(canonicalize_name(package["name"]), package.get("version", "")) for package in lock["package"]}
    return sorted(f"{name} {version}" for name, version in installed.items() if (name, version) not in locked)


def vulnerable(report: dict[str, Any]) -> tuple[list[str], list[str]]:
    """Return what pip-audit knows to be vulnerable, and what it could not ask about."""
    found = [
        f"{one['name']} {one.get('version', '')}: {vulnerability['id']}"
        for one in report["dependencies"]
        for vulnerability in one.get("vulns", ())
    ]
    return found, [one["name"] for one in report["dependencies"] if _NOT_ASKED in one]


def main() -> None:
    """Audit; exits with 1 when something is wrong."""
    wrong: list[str] = []
    for name in LOCKS:
        lock = tomllib.loads((ROOT / name).read_text())
        missing = unhashed(lock)
        wrong += [f"{name}: {package} has a file without a SHA-256" for package in missing]
        print(f"{name}: {len(lock['package'])} packages, {len(missing)} without a SHA-256")
    installed: dict[str, str] = {
        canonicalize_name(found.metadata["Name"]): found.version for found in importlib.metadata.distributions()
    }
    project = tomllib.loads((ROOT / LOCKS[0]).read_text())
    wrong += [f"{package} is installed, and uv.lock has it not" for package in strangers(project, installed)]
    print(f"{len(installed)} packages are installed, for Python {default_environment()['python_version']}")
    same = subprocess.run(["uv", "sync", "--locked", "--check", "--quiet"], cwd=ROOT, check=False)
    wrong += ["the environment is not what uv.lock says: run uv sync --locked"] if same.returncode else []
    wrong += asked(ROOT)
    for line in wrong:
        print(f"WRONG: {line}", file=sys.stderr)
    sys.exit(1 if wrong else 0)


def asked(folder: Path) -> list[str]:
    """Ask for known vulnerabilities of what uv.lock names; return them, and say whether there was an answer at all."""
    export = ["uv", "export", "--locked", "--no-emit-project", "--quiet", "--format", "requirements-txt"]
    requirements = subprocess.run(export, cwd=folder, capture_output=True, text=True, check=True).stdout
    listed = folder / ".stoker/requirements.txt"
    listed.parent.mkdir(exist_ok=True)
    listed.write_text(requirements)
    command = [
        "uv",
        "tool",
        "run",
        _TOOL,
        "--requirement",
        str(listed),
        "--disable-pip",
        "--require-hashes",
        "--format",
        "json",
    ]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    try:
        found, unasked = vulnerable(json.loads(result.stdout))
    except (ValueError, KeyError):
        print("KNOWN VULNERABILITIES WERE NOT LOOKED UP: pip-audit gave no report:")
        print("  " + (result.stderr.strip().splitlines() or ["it said nothing"])[-1][:300])
        return [] if result.returncode in _ANSWERED else [f"pip-audit ended with {result.returncode}"]
    if unasked:
        print(f"KNOWN VULNERABILITIES WERE NOT LOOKED UP for {len(unasked)} packages: their data could not be reached")
    else:
        print(f"known vulnerabilities: {len(found)}")
    return found


if __name__ == "__main__":
    main()
