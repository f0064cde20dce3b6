"""Knative's own manifests, from the Go modules that its programs were built from, with our images in place of ``ko://``."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from infra.node import images
from infra.node.layout import HERE, apply, kubectl, run

MODULES = HERE.parent / "kubernetes"
#: programs that Stoker does not use, and objects with these names
UNUSED = {"job-sink", "request-reply"}
#: only useful with several nodes or a metrics server
UNUSED_KINDS = {"HorizontalPodAutoscaler", "PodDisruptionBudget"}
#: settings that differ from Knative's defaults, by ConfigMap
SETTINGS = {
    "config-network": {"ingress-class": "kourier.ingress.networking.knative.dev"},
    "config-deployment": {
        "queue-sidecar-image": images.knative("knative.dev/serving/cmd/queue"),
        "queue-sidecar-cpu-request": "5m",
        "queue-sidecar-memory-request": "20Mi",
        # There is no registry that could resolve a tag to a digest.
        "registries-skipping-tag-resolving": "stoker.local",
    },
    "config-features": {"authentication-oidc": "enabled", "secure-pod-defaults": "enabled"},
    # Knative's default is a minute; shorter, since tests wait for zero pods.
    "config-autoscaler": {"scale-to-zero-grace-period": "30s", "stable-window": "20s"},
}


def start() -> None:
    """Install Serving, Kourier and Eventing, and wait until all their Deployments are available."""
    everything = [*manifests()]
    first = {"CustomResourceDefinition", "Namespace"}
    apply(yaml.safe_dump_all(manifest for manifest in everything if manifest["kind"] in first))
    kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")
    rest = yaml.safe_dump_all(manifest for manifest in everything if manifest["kind"] not in first)
    try:
        apply(rest)
    except SystemExit:
        # An interrupted start leaves registered webhooks that do not respond; they do not apply to Deployments.
        wait_until_available()
        apply(rest)
    wait_until_available()


def wait_until_available() -> None:
    """Wait until all Deployments of Knative are available."""
    for namespace in ("knative-serving", "kourier-system", "knative-eventing"):
        kubectl("wait", "--for=condition=Available", "deployment", "--all", "-n", namespace, "--timeout=300s")


def manifests() -> Iterator[dict[str, Any]]:
    """Yield the manifests to install, in the order of Knative's file names."""
    modules = folders("kourier", "knative.dev/net-kourier") | folders(
        "knative", *(f"knative.dev/{name}" for name in ("serving", "eventing", "networking", "caching"))
    )
    serving, eventing = modules["knative.dev/serving"], modules["knative.dev/eventing"]
    kourier, networking, caching = (modules[f"knative.dev/{name}"] for name in ("net-kourier", "networking", "caching"))
    sources = [
        # In serving's repository these are symbolic links, which a module's archive cannot contain.
        *networking.glob("config/*.yaml"),
        *caching.glob("config/image.yaml"),
        *sorted(serving.glob("config/core/**/*.yaml")),
        *sorted(kourier.glob("config/*.yaml")),
        *sorted(eventing.glob("config/core/**/*.yaml")),
        *sorted(eventing.glob("third_party/eventing-integrations-latest/*.yaml")),
        *sorted(eventing.glob("config/brokers/mt-channel-broker/**/*.yaml")),
        *sorted(eventing.glob("config/channels/in-memory-channel/**/*.yaml")),
    ]
    for source in sources:
        for manifest in yaml.safe_load_all(source.read_text()):
            if manifest and manifest["metadata"]["name"] not in UNUSED and manifest["kind"] not in UNUSED_KINDS:
                yield adapted(manifest)


def folders(name: str, *modules: str) -> dict[str, Path]:
    """Return the folders of modules in Go's module cache, by their names; ``name`` is the folder of the go.mod file."""
    lines = run("go", "list", "-m", "-f", "{{.Path}} {{.Dir}}", *modules, cwd=MODULES / name).splitlines()
    return {path: Path(folder) for path, _, folder in (line.partition(" ") for line in lines)}


def adapted(manifest: dict[str, Any]) -> dict[str, Any]:
    """Return a manifest with the node's images, our settings, and resource requests that fit on two cores."""
    if manifest["kind"] == "ConfigMap":
        manifest["data"] = (manifest.get("data") or {}) | SETTINGS.get(manifest["metadata"]["name"], {})
    if manifest["kind"] == "Deployment":
        for container in manifest["spec"]["template"]["spec"]["containers"]:
            # Explicit, because a container with limits only requests as much as its limits.
            container.setdefault("resources", {})["requests"] = {"cpu": "10m", "memory": "30Mi"}
    text = re.sub('"ko://([^"]+)"', lambda match: f'"{images.knative(match[1])}"', json.dumps(manifest))
    text = text.replace('"docker.io/envoyproxy/envoy:v1.36-latest"', f'"{images.ENVOY}"')
    result: dict[str, Any] = json.loads(text)
    return result
