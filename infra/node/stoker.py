"""Install Stoker: create Secrets at the first start, then apply the unmodified overlay for throw-away clusters."""

import json
import secrets
from contextlib import suppress
from typing import Any

from infra.local import parts
from infra.node.layout import PROJECT, apply, kubectl

NAMESPACE = "stoker"
MIGRATE = "app.kubernetes.io/name=migrate"
OVERLAY = PROJECT / "knative/overlays/kind"


def start() -> None:
    """Install Stoker, and wait until all functions, the Broker and the event sources are Ready."""
    if not has("namespace", NAMESPACE):
        kubectl("create", "namespace", NAMESPACE)
    if not has("secret", "storage-notification"):  # the last one: an interrupted start creates all of them again
        for secret in secret_objects():
            apply(json.dumps(secret))
    # A Job's template cannot be changed: an upgrade runs a new one.
    kubectl("delete", "job", "-l", MIGRATE, "-n", NAMESPACE, "--ignore-not-found")
    apply(kubectl("kustomize", str(OVERLAY)))
    kubectl("wait", "--for=condition=Complete", "job", "-l", MIGRATE, "-n", NAMESPACE, "--timeout=180s")
    for kinds in ("ksvc", "broker,trigger,pingsource,apiserversource"):
        kubectl("wait", "--for=condition=Ready", kinds, "--all", "-n", NAMESPACE, "--timeout=180s")


def has(kind: str, name: str) -> bool:
    """Return whether the cluster has an object."""
    with suppress(SystemExit):
        kubectl("get", kind, name, "-n", NAMESPACE)
        return True
    return False


def secret_objects() -> list[dict[str, Any]]:
    """Return the Secrets that the overlay refers to: signing keys, passwords of database and storage, settings of notifications."""
    password, jwt_secrets = secrets.token_hex(16), f"node:{secrets.token_urlsafe(48)}"
    uploads = f"http://uploads.{NAMESPACE}.svc.cluster.local/v1/uploads"
    values = {
        "postgres": {"POSTGRES_PASSWORD": password},
        "stoker": {
            "DATABASE_URL": f"postgresql://stoker:{password}@postgres/postgres",
            "JWT_SECRETS": jwt_secrets,
            "MINIO_ACCESS_KEY": secrets.token_hex(10),
            "MINIO_SECRET_KEY": secrets.token_urlsafe(30),
        },
        "storage-notification": {"notification.toml": parts.notification(uploads, jwt_secrets)},
    }
    return [
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": NAMESPACE}, "stringData": data}
        for name, data in values.items()
    ]
