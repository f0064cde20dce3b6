"""Verify installed packages against the lock files, by hash, and look up known vulnerabilities.

``python -m infra.local.audit`` exits with 1 on a problem, and prints a notice if vulnerabilities cannot be looked up.
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
#: pip-audit's field for a package that it could not look up
_SKIPPED = "skip_reason"
_TOOL = "pip-audit==2.10.1"
_COMPLETED = (0, 1)


def unhashed(lock: dict[str, Any]) -> list[str]:
    """Return the packages of a lock file that have a file without SHA-256, or no file."""
    wrong = []
    for package in lock["package"]:
        if {"editable", "virtual", "directory"} & package["source"].keys():
            continue
        files = [*package.get("wheels", ()), *([package["sdist"]] if "sdist" in package else ())]
        if not files or not all(_SHA256.fullmatch(file.get("hash", "")) for file in files):
            wrong.append(f"{package['name']} {package.get('version', '')}")
    return wrong


def unlocked(lock: dict[str, Any], installed: Mapping[str, str]) -> list[str]:
    """Return the installed packages that are not in the lock file with that version."""
    locked = {(canonicalize_name(package["name"]), package.get("version", "")) for package in lock["package"]}
    return sorted(f"{name} {version}" for name, version in installed.items() if (name, version) not in locked)


def vulnerable(report: dict[str, Any]) -> tuple[list[str], list[str]]:
    """Return the vulnerabilities that pip-audit reports, and the packages that it could not look up."""
    packages = report["dependencies"]
    vulnerabilities = [
        f"{package['name']} {package.get('version', '')}: {vulnerability['id']}"
        for package in packages
        for vulnerability in package.get("vulns", ())
    ]
    return vulnerabilities, [package["name"] for package in packages if _SKIPPED in package]


def main() -> None:
    """Print the results; exit with 1 on a problem."""
    wrong: list[str] = []
    for name in LOCKS:
        lock = tomllib.loads((ROOT / name).read_text())
        missing = unhashed(lock)
        wrong += [f"{name}: {package} has a file without a SHA-256" for package in missing]
        print(f"{name}: {len(lock['package'])} packages, {len(missing)} without a SHA-256")
    installed: dict[str, str] = {
        canonicalize_name(package.metadata["Name"]): package.version for package in importlib.metadata.distributions()
    }
    project = tomllib.loads((ROOT / LOCKS[0]).read_text())
    wrong += [f"{package} is installed, but not in uv.lock" for package in unlocked(project, installed)]
    print(f"{len(installed)} packages are installed, for Python {default_environment()['python_version']}")
    same = subprocess.run(["uv", "sync", "--locked", "--check", "--quiet"], cwd=ROOT, check=False)
    wrong += ["the environment differs from uv.lock: run uv sync --locked"] if same.returncode else []
    wrong += known_vulnerabilities(ROOT)
    for line in wrong:
        print(f"WRONG: {line}", file=sys.stderr)
    sys.exit(1 if wrong else 0)


def known_vulnerabilities(folder: Path) -> list[str]:
    """Look up and return known vulnerabilities of the packages in uv.lock; print which could not be looked up."""
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
        vulnerabilities, skipped = vulnerable(json.loads(result.stdout))
    except (ValueError, KeyError):
        print("KNOWN VULNERABILITIES WERE NOT LOOKED UP: pip-audit gave no report:")
        print("  " + (result.stderr.strip().splitlines() or ["it printed nothing"])[-1][:300])
        return [] if result.returncode in _COMPLETED else [f"pip-audit exited with {result.returncode}"]
    if skipped:
        print(f"KNOWN VULNERABILITIES WERE NOT LOOKED UP for {len(skipped)} packages: the database is unreachable")
    else:
        print(f"known vulnerabilities: {len(vulnerabilities)}")
    return vulnerabilities


if __name__ == "__main__":
    main()
