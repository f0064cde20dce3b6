"""The custom resource definitions that our manifests are written for, from the Go modules of those who wrote them."""

import json
import subprocess
from pathlib import Path
from typing import Any

import yaml

from tests.conftest import ROOT

#: by the folder of the go.mod that says which version; else by version, which Go checks against its public log
MODULES = {
    ("knative", "knative.dev/serving"): "config/core/300-resources/service.yaml",
    ("knative", "knative.dev/eventing"): "config/core/resources/*.yaml",
    ("kueue", "sigs.k8s.io/kueue"): "config/components/crd/bases/*.yaml",
    ("", "sigs.k8s.io/gateway-api@v1.4.1"): "config/crd/standard/*.yaml",
    (
        "",
        "github.com/prometheus-operator/prometheus-operator@v0.93.0",
    ): "example/prometheus-operator-crd/*.yaml",
    (
        "",
        "github.com/external-secrets/external-secrets@v0.16.2",
    ): "config/crds/bases/external-secrets.io_externalsecrets.yaml",
}


#: those that our manifests are of, and the Workload that the launcher reads: the others would only cost time
KINDS = {
    "Service", "Broker", "Trigger", "EventPolicy", "PingSource", "ApiServerSource", "IntegrationSource", "Gateway", "HTTPRoute",
    "ReferenceGrant", "ResourceFlavor", "ClusterQueue", "LocalQueue", "WorkloadPriorityClass", "Workload", "ExternalSecret",
    "PrometheusRule", "ScrapeConfig",
}  # fmt: skip


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]  # either is a class
    """Reads a bare ``=``, which is no text in YAML 1.1, as Kubernetes does."""


_Loader.add_constructor("tag:yaml.org,2002:value", lambda _loader, node: node.value)


def manifests() -> str:
    """Return them so that a field which they do not name is unknown, though some let anything pass beside what they name."""
    results = [one for file in _files() for one in yaml.load_all(file.read_text(), _Loader) if one]
    mine = [_strict(one) for one in results if one["spec"]["names"]["kind"] in KINDS]
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": mine})


def _strict(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_strict(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    # Descriptions are most of their size.
    named = {key: _strict(value) for key, value in schema.items() if key != "description" or not isinstance(value, str)}
    if "x-kubernetes-preserve-unknown-fields" in named and isinstance(named.get("properties"), dict):
        del named["x-kubernetes-preserve-unknown-fields"]
        if "deadLetterSink" in named["properties"]:
            named["properties"]["timeout"] = {
                "type": "string"
            }  # in Go's types, and on by default; only the schema lacks it
    return named


def _files() -> list[Path]:
    return [
        file
        for (folder, module), pattern in MODULES.items()
        for file in sorted(_downloaded(folder, module).glob(pattern))
        if file.name != "kustomization.yaml"
    ]


def _downloaded(folder: str, module: str) -> Path:
    where = ROOT / "infra/kubernetes" / folder if folder else "/"
    done = subprocess.run(
        ["go", "mod", "download", "-json", module], cwd=where, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return Path(json.loads(done.stdout)["Dir"])
