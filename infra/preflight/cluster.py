"""The cluster of the current kubeconfig, and the objects of an overlay."""

import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from infra.node.layout import BINARIES

Object = dict[str, Any]


class Cluster:
    """Reads a cluster by kubectl, with the caller's kubeconfig."""

    def get(self, kind: str, name: str, namespace: str = "") -> Object | None:
        """Return an object; None if it does not exist, or its kind does not, or it may not be read."""
        where = ["--namespace", namespace] if namespace else []
        done = _kubectl("get", kind, name, *where, "--output=json")
        item: Object | None = json.loads(done.stdout) if done.returncode == 0 else None
        return item

    def raw(self, path: str) -> Object | None:
        """Return what the API server has at a path; None if there is nothing."""
        done = _kubectl("get", "--raw", path)
        item: Object | None = json.loads(done.stdout) if done.returncode == 0 else None
        return item

    def list(self, kind: str, selector: str, namespace: str) -> list[Object]:
        """Return the objects with some labels; none if they may not be read."""
        done = _kubectl("get", kind, "--selector", selector, "--namespace", namespace, "--output=json")
        items: list[Object] = json.loads(done.stdout)["items"] if done.returncode == 0 else []
        return items

    def create(self, item: Object) -> str | None:
        """Create an object; return why it was refused, None if it was not."""
        done = _kubectl("create", "-f", "-", stdin=json.dumps(item))
        return done.stderr.strip() if done.returncode else None

    def delete(self, kind: str, selector: str, namespace: str) -> None:
        """Delete the objects with some labels, without waiting."""
        _kubectl("delete", kind, "--selector", selector, "--namespace", namespace, "--wait=false")

    def error(self) -> str | None:
        """Return why the API server cannot be reached; None if it can."""
        done = _kubectl("get", "--raw", "/version")
        return None if done.returncode == 0 else done.stderr.strip().splitlines()[-1]


class Overlay(NamedTuple):
    """The rendered objects of an overlay."""

    objects: list[Object]

    def of(self, *kinds: str) -> list[Object]:
        """Return the objects of some kinds."""
        return [item for item in self.objects if item["kind"] in kinds]

    def one(self, kind: str, name: str, namespace: str) -> Object | None:
        """Return an object; None if the overlay does not have it."""
        matching = [item for item in self.of(kind) if (name, namespace) == (name_of(item), namespace_of(item))]
        return matching[0] if matching else None

    def data(self, name: str) -> Mapping[str, str]:
        """Return the data of a ConfigMap of the functions; empty if there is none."""
        return dict((self.one("ConfigMap", name, "stoker") or {}).get("data", {}))


def render(folder: Path) -> Overlay:
    """Render an overlay.

    Raises:
        SystemExit: it cannot be rendered.
    """
    done = _kubectl("kustomize", str(folder))
    if done.returncode:
        raise SystemExit(f"the overlay cannot be rendered: {done.stderr.strip()}")
    return Overlay([item for item in yaml.safe_load_all(done.stdout) if item])


def name_of(item: Object) -> str:
    """Return an object's name."""
    return str(item["metadata"]["name"])


def namespace_of(item: Object) -> str:
    """Return an object's namespace; empty if it has none."""
    return str(item["metadata"].get("namespace", ""))


def _kubectl(*words: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    program = shutil.which("kubectl") or str(BINARIES / "kubectl")
    if not os.access(program, os.X_OK):
        raise SystemExit("kubectl is not in PATH")
    return subprocess.run([program, *words], input=stdin, capture_output=True, text=True, check=False, timeout=60)
