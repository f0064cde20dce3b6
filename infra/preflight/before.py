"""What a cluster lacks for an overlay, before it is applied."""

import base64
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import urlsplit

import yaml

from infra.node.layout import PROJECT
from infra.preflight import reach
from infra.preflight.cluster import Cluster, Object, Overlay, name_of, namespace_of

_OLDEST_MINOR = 34
#: by Broker class: the Deployment of its controller, in knative-eventing
BROKER_CONTROLLERS = {
    "MTChannelBasedBroker": "mt-broker-controller",
    "Kafka": "kafka-controller",
    "RabbitMQBroker": "rabbitmq-broker-controller",
}
_BROKER_CLASS = "eventing.knative.dev/broker.class"
_PORTS = {"http": 80, "https": 443, "postgresql": 5432, "postgres": 5432}
#: example values of the overlay, which each installation must replace
_PLACEHOLDERS = ("example.com", "stoker-example", "0" * 64)
_SECRET_KEYS = {
    "minio": ("DATABASE_URL", "JWT_SECRETS", "MINIO_ACCESS_KEY", "MINIO_SECRET_KEY"),
    "r2": ("DATABASE_URL", "JWT_SECRETS", "R2_ACCESS_KEY_ID", "R2_SECRET_ACCESS_KEY"),
}


def lacks(cluster: Cluster, overlay: Overlay) -> Iterator[str]:
    """Yield what is missing, each with what to do."""
    if error := cluster.error():
        yield f"the API server cannot be reached: {error}"
        return
    yield from _version(cluster)
    yield from _kinds(cluster, overlay)
    yield from _knative(cluster, overlay)
    yield from _brokers(cluster, overlay)
    yield from _issuer(cluster, overlay)
    secret = _secret(cluster)
    yield from _secrets(cluster, overlay, secret)
    yield from _placeholders(overlay)
    yield from _settings(overlay, secret)
    yield from _addresses(cluster, overlay, secret)


def _version(cluster: Cluster) -> Iterator[str]:
    version = cluster.raw("/version") or {}
    minor = int("".join(filter(str.isdigit, version.get("minor", ""))) or 0)
    if version.get("major") == "1" and minor < _OLDEST_MINOR:
        yield f"Kubernetes is 1.{minor}: Stoker needs 1.{_OLDEST_MINOR} or newer"


def _kinds(cluster: Cluster, overlay: Overlay) -> Iterator[str]:
    for version in sorted({item["apiVersion"] for item in overlay.objects if "/" in item["apiVersion"]}):
        served = {one["kind"] for one in (cluster.raw(f"/apis/{version}") or {}).get("resources", [])}
        wanted = {item["kind"] for item in overlay.objects if item["apiVersion"] == version}
        if missing := sorted(wanted - served):
            yield f"the cluster has no {', '.join(missing)} of {version}: install what serves them, or leave out the component"


def _knative(cluster: Cluster, overlay: Overlay) -> Iterator[str]:
    features = (cluster.get("configmap", "config-features", "knative-eventing") or {}).get("data", {})
    if overlay.of("PingSource", "Trigger") and features.get("authentication-oidc") != "enabled":
        yield "authentication-oidc is not enabled in ConfigMap config-features of knative-eventing: events are refused with 401"
    if overlay.one("Deployment", "front", "stoker") and not cluster.get(
        "service", "kourier-internal", "kourier-system"
    ):
        yield "there is no Service kourier-internal in kourier-system, to which the front sends calls: install Kourier, or use another front"


def _brokers(cluster: Cluster, overlay: Overlay) -> Iterator[str]:
    defaults = (cluster.get("configmap", "config-br-defaults", "knative-eventing") or {}).get("data", {})
    default = yaml.safe_load(defaults.get("default-br-config", "")) or {}
    for broker in overlay.of("Broker"):
        configured = broker["metadata"].get("annotations", {}).get(_BROKER_CLASS)
        broker_class = configured or default.get("clusterDefault", {}).get("brokerClass", "MTChannelBasedBroker")
        controller = BROKER_CONTROLLERS.get(broker_class)
        if controller is None:
            yield f"the Broker {name_of(broker)} has the class {broker_class}, which is none of {', '.join(BROKER_CONTROLLERS)}"
        elif not _is_available(cluster.get("deployment", controller, "knative-eventing")):
            yield (
                f"the Broker {name_of(broker)} has the class {broker_class}, and its controller, Deployment {controller} in "
                "knative-eventing, is not running: install it, or change the class"
            )


def _is_available(deployment: Object | None) -> bool:
    return deployment is not None and deployment.get("status", {}).get("availableReplicas", 0) > 0


def _issuer(cluster: Cluster, overlay: Overlay) -> Iterator[str]:
    wanted = overlay.data("event-callers").get("OIDC_ISSUER")
    document = cluster.raw("/.well-known/openid-configuration")
    if wanted is None:
        return
    if document is None:
        yield "the cluster shows no /.well-known/openid-configuration: it cannot be checked who signs the tokens of events"
    elif document["issuer"] != wanted:
        yield f"the cluster's tokens are signed by {document['issuer']}: set OIDC_ISSUER in ConfigMap event-callers to it, not {wanted}"


def _secret(cluster: Cluster) -> Mapping[str, str] | None:
    """Return the functions' Secret; None if it does not exist."""
    existing = cluster.get("secret", "stoker", "stoker")
    if existing is None:
        return None
    return {
        name: base64.b64decode(value).decode("utf-8", "replace") for name, value in existing.get("data", {}).items()
    }


def _secrets(cluster: Cluster, overlay: Overlay, secret: Mapping[str, str] | None) -> Iterator[str]:
    if not overlay.of("ExternalSecret"):
        if secret is None:
            yield "there is no Secret stoker in the namespace stoker: see docs/OPERATIONS.md, Install, Secrets"
        else:
            for key in _SECRET_KEYS[overlay.data("stoker").get("STORAGE_TYPE", "minio")]:
                if not secret.get(key):
                    yield f"the Secret stoker has no {key}"
    for scrape in overlay.of("ScrapeConfig"):
        name = scrape["spec"].get("authorization", {}).get("credentials", {}).get("name")
        if name and not cluster.get("secret", name, namespace_of(scrape)):
            yield f"there is no Secret {name} in the namespace {namespace_of(scrape)}: ./taskw token SCOPE=metrics:read"


def _placeholders(overlay: Overlay) -> Iterator[str]:
    for item in overlay.objects:
        for value in sorted(set(_texts(item))):
            if len(value) < 300 and any(placeholder in value for placeholder in _PLACEHOLDERS):  # noqa: PLR2004 -- a value, not a file
                yield f"{item['kind']} {name_of(item)} still has the example {value}: put your own"


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for one in value.values():
            yield from _texts(one)
    elif isinstance(value, list):
        for one in value:
            yield from _texts(one)


def _settings(overlay: Overlay, secret: Mapping[str, str] | None) -> Iterator[str]:
    """Check the settings as each function does when it starts, with stand-ins for secrets that are missing."""
    stand_ins = {
        "DATABASE_URL": "postgresql://stand-in/stoker",
        "JWT_SECRETS": "stand-in:0123456789abcdefghijklmnopqrstuvwxyz",
        **dict.fromkeys(
            ("MINIO_ACCESS_KEY", "MINIO_SECRET_KEY", "R2_ACCESS_KEY_ID", "R2_SECRET_ACCESS_KEY"), "stand-in"
        ),
    }
    present = {name: value for name, value in (secret or {}).items() if value}
    with tempfile.TemporaryDirectory() as folder:
        trainers = Path(folder) / "trainers.json"
        # Paths of the image, which has the project in /srv.
        registry = overlay.data("trainers").get("trainers.json", "")
        trainers.write_text(registry.replace('"/srv/', f'"{PROJECT}/'))
        variables = {**stand_ins, **present, **overlay.data("stoker"), "TRAINERS": str(trainers)}
        done = subprocess.run(
            [sys.executable, "-m", "functions.runtime.configuration"],
            env={"PATH": os.environ["PATH"], **variables},
            cwd=PROJECT,
            capture_output=True,
            text=True,
            check=False,
        )
    for line in done.stderr.splitlines() if done.returncode else ():
        yield f"a setting cannot be used: {line.replace(str(trainers), 'trainers.json')}"


def _loki(overlay: Overlay) -> Mapping[str, str]:
    """Return the collector's addresses; none without the component ``logs``. The ConfigMap's name ends with a hash."""
    for item in overlay.of("ConfigMap"):
        if namespace_of(item) == reach.COLLECTOR.namespace and "LOKI_ENDPOINT" in item["data"]:
            return dict(item["data"])
    return {}


def _addresses(cluster: Cluster, overlay: Overlay, secret: Mapping[str, str] | None) -> Iterator[str]:
    configured = overlay.data("stoker")
    storage = configured.get("MINIO_ENDPOINT") or configured.get("R2_ENDPOINT") or ""
    database = (secret or {}).get("DATABASE_URL", "")
    loki = _loki(overlay).get("LOKI_ENDPOINT", "")
    inside = "the component storage-inside, or "
    for what, url, pods in [
        ("the storage", storage, (reach.FUNCTIONS, reach.TRAINERS)),
        ("the database", database, (reach.FUNCTIONS,)),
        ("Loki", loki, (reach.COLLECTOR,)),
    ]:
        parts = urlsplit(url)
        if not parts.hostname:
            continue
        target = reach.target(cluster, parts.hostname, parts.port or _PORTS.get(parts.scheme, 443))
        for pod in pods:
            if not reach.is_reachable(overlay, pod, target):
                yield (
                    f"no NetworkPolicy lets {pod.what} reach {what} at {parts.hostname}:{target.port}: "
                    f"add {inside if url == storage else ''}a policy of your own to the namespace {pod.namespace}"
                )
