"""Stoker itself: keys made at the first start, then the unmodified overlay for throw-away clusters."""

import json
import secrets
from contextlib import suppress
from typing import Any

from infra.local import parts
from infra.node.layout import PROJECT, apply, kubectl

NAMESPACE = "stoker"
OVERLAY = PROJECT / "knative/overlays/kind"


def start() -> None:
    """Install it; all functions, and what calls them, are Ready when this returns."""
    if not has("namespace", NAMESPACE):
        kubectl("create", "namespace", NAMESPACE)
    if not has("secret", "storage-notification"):  # the last of them, so that a start that was cut off makes all anew
        for secret in secret_objects():
            apply(json.dumps(secret))
    # A Job's template cannot be changed: an upgrade runs a new one.
    kubectl("delete", "job", "migrate", "-n", NAMESPACE, "--ignore-not-found")
    apply(kubectl("kustomize", str(OVERLAY)))
    kubectl("wait", "--for=condition=Complete", "job/migrate", "-n", NAMESPACE, "--timeout=180s")
    for kinds in ("ksvc", "broker,trigger,pingsource,apiserversource"):
        kubectl("wait", "--for=condition=Ready", kinds, "--all", "-n", NAMESPACE, "--timeout=180s")


def has(kind: str, name: str) -> bool:
    """Say whether the cluster has an object."""
    with suppress(SystemExit):
        kubectl("get", kind, name, "-n", NAMESPACE)
        return True
    return False


def secret_objects() -> list[dict[str, Any]]:
    """Make what the overlay takes by reference: the keys of tokens, the passwords of database and storage, and whom to tell."""
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
