"""Find the objects of an applied overlay that are not ready."""

import time
from collections.abc import Iterator

from infra.preflight.cluster import Cluster, Object, Overlay, name_of, namespace_of

#: by kind: the resource, and its condition for being ready
_CONDITIONS = {
    "Job": ("jobs.v1.batch", "Complete"),
    "Deployment": ("deployments.v1.apps", "Available"),
    "ExternalSecret": ("externalsecrets", "Ready"),
    "Broker": ("brokers.eventing.knative.dev", "Ready"),
    "Trigger": ("triggers.eventing.knative.dev", "Ready"),
    "PingSource": ("pingsources", "Ready"),
    "ApiServerSource": ("apiserversources", "Ready"),
    "IntegrationSource": ("integrationsources", "Ready"),
}
_SERVICE = ("services.serving.knative.dev", "Ready")
_POLL_SECONDS = 2.0


def lacks(cluster: Cluster, overlay: Overlay, *, within_seconds: float) -> list[str]:
    """Wait until everything is ready, or the time is over; return what is not."""
    end = time.monotonic() + within_seconds
    while (missing := list(_not_ready(cluster, overlay))) and time.monotonic() < end:
        time.sleep(_POLL_SECONDS)
    return missing


def _not_ready(cluster: Cluster, overlay: Overlay) -> Iterator[str]:
    for item in overlay.objects:
        kind = item["kind"]
        is_service = item["apiVersion"].startswith("serving.knative.dev/")
        resource, wanted = _SERVICE if is_service else _CONDITIONS.get(kind, ("", ""))
        if resource:
            existing = cluster.get(resource, name_of(item), namespace_of(item))
            if reason := _reason(existing, wanted):
                yield f"{kind} {name_of(item)}: {reason}"


def _reason(item: Object | None, wanted: str) -> str | None:
    """Return why an object is not ready; None if it is."""
    if item is None:
        return "it does not exist: apply the overlay"
    conditions = {one["type"]: one for one in item.get("status", {}).get("conditions", [])}
    if not conditions:
        return "nothing reports its status: is its controller installed and running?"
    condition = conditions.get(wanted, {})
    if condition.get("status") == "True":
        return None
    failed = conditions.get("Failed", {}) if wanted == "Complete" else {}
    detail = failed.get("message") or condition.get("message") or condition.get("reason")
    return f"{wanted} is {condition.get('status', 'not reported')}" + (f": {detail}" if detail else "")
