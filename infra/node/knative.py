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
#: programs that nobody here calls, with all that is named after them
UNUSED = {"job-sink", "request-reply"}
#: for several nodes, or for a metrics server
UNUSED_KINDS = {"HorizontalPodAutoscaler", "PodDisruptionBudget"}
#: what differs from Knative's defaults, by ConfigMap
SETTINGS = {
    "config-network": {"ingress-class": "kourier.ingress.networking.knative.dev"},
    "config-deployment": {
        "queue-sidecar-image": images.knative("knative.dev/serving/cmd/queue"),
        "queue-sidecar-cpu-request": "5m",
        "queue-sidecar-memory-request": "20Mi",
        # There is no registry to ask for a tag's digest.
        "registries-skipping-tag-resolving": "stoker.local",
    },
    "config-features": {"authentication-oidc": "enabled", "secure-pod-defaults": "enabled"},
    # A test waits for zero pods; a minute is Knative's default.
    "config-autoscaler": {"scale-to-zero-grace-period": "30s", "stable-window": "20s"},
}


def start() -> None:
    """Install Serving, Kourier and Eventing; all their Deployments are available when this returns."""
    everything = [*manifests()]
    first = {"CustomResourceDefinition", "Namespace"}
    apply(yaml.safe_dump_all(found for found in everything if found["kind"] in first))
    kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")
    rest = yaml.safe_dump_all(found for found in everything if found["kind"] not in first)
    try:
        apply(rest)
    except SystemExit:
        # A start that was cut off has left webhooks that are registered and do not answer; they do not guard Deployments.
        wait_until_available()
        apply(rest)
    wait_until_available()


def wait_until_available() -> None:
    """Wait until all Deployments of Knative are available."""
    for namespace in ("knative-serving", "kourier-system", "knative-eventing"):
        kubectl("wait", "--for=condition=Available", "deployment", "--all", "-n", namespace, "--timeout=300s")


def manifests() -> Iterator[dict[str, Any]]:
    """Yield what is installed, in the order of Knative's own file names."""
    modules = folders("kourier", "knative.dev/net-kourier") | folders(
        "knative", *(f"knative.dev/{name}" for name in ("serving", "eventing", "networking", "caching"))
    )
    serving, eventing = modules["knative.dev/serving"], modules["knative.dev/eventing"]
    kourier, networking, caching = (modules[f"knative.dev/{name}"] for name in ("net-kourier", "networking", "caching"))
    sources = [
        # These are symbolic links in serving's repository, which a module's archive cannot hold.
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
        for found in yaml.safe_load_all(source.read_text()):
            if found and found["metadata"]["name"] not in UNUSED and found["kind"] not in UNUSED_KINDS:
                yield adapted(found)


def folders(name: str, *modules: str) -> dict[str, Path]:
    """Return where Go keeps modules that one of our go.mod files asks for."""
    lines = run("go", "list", "-m", "-f", "{{.Path}} {{.Dir}}", *modules, cwd=MODULES / name).splitlines()
    return {path: Path(folder) for path, _, folder in (line.partition(" ") for line in lines)}


def adapted(manifest: dict[str, Any]) -> dict[str, Any]:
    """Return a manifest with images that the node has, our settings, and requests that fit on two cores."""
    if manifest["kind"] == "ConfigMap":
        manifest["data"] = (manifest.get("data") or {}) | SETTINGS.get(manifest["metadata"]["name"], {})
    if manifest["kind"] == "Deployment":
        for container in manifest["spec"]["template"]["spec"]["containers"]:
            # Said, not left out: what has limits only, asks for as much.
            container.setdefault("resources", {})["requests"] = {"cpu": "10m", "memory": "30Mi"}
    text = re.sub('"ko://([^"]+)"', lambda found: f'"{images.knative(found[1])}"', json.dumps(manifest))
    text = text.replace('"docker.io/envoyproxy/envoy:v1.36-latest"', f'"{images.ENVOY}"')
    mine: dict[str, Any] = json.loads(text)
    return mine
