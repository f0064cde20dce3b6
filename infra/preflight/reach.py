"""Whether NetworkPolicies let pods reach an address."""

import socket
from collections.abc import Mapping
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any, NamedTuple

from infra.preflight.cluster import Cluster, Object, Overlay, namespace_of

NAMESPACE_LABEL = "kubernetes.io/metadata.name"


class Pod(NamedTuple):
    """The pods that a policy is about."""

    what: str
    namespace: str
    labels: Mapping[str, str]


FUNCTIONS = Pod("functions", "stoker", {"serving.knative.dev/service": "any", "app.kubernetes.io/part-of": "stoker"})
TRAINERS = Pod("trainers", "stoker-trainers", {"stoker.dev/role": "trainer", "stoker.dev/installation": "stoker"})
COLLECTOR = Pod("the collector of logs", "stoker-logs", {"app.kubernetes.io/name": "collector"})


class Target(NamedTuple):
    """An address: pods of the cluster behind a Service, or addresses outside; neither, if the name cannot be resolved."""

    port: int
    namespace: str = ""
    labels: Mapping[str, str] = {}
    addresses: tuple[IPv4Address | IPv6Address, ...] = ()


def target(cluster: Cluster, host: str, port: int) -> Target:
    """Resolve a host and port to pods or addresses."""
    service, _, rest = host.partition(".")
    namespace = rest.partition(".")[0] or FUNCTIONS.namespace
    if not rest or rest.endswith((".svc", ".svc.cluster.local")) or cluster.get("namespace", rest):
        spec = (cluster.get("service", service, namespace) or {"spec": {}})["spec"]
        ports = [one for one in spec.get("ports", []) if one["port"] == port]
        pod_port = _pod_port(cluster, service, namespace, ports[0]) if ports else port
        return Target(pod_port, namespace, spec.get("selector") or {})
    try:
        return Target(port, addresses=tuple({ip_address(entry[4][0]) for entry in socket.getaddrinfo(host, port)}))
    except OSError:  # known only inside of the cluster
        return Target(port)


def _pod_port(cluster: Cluster, service: str, namespace: str, port: Object) -> int:
    """Return the port of a Service's pods, which it may refer to by the name that it has there."""
    if isinstance(port["targetPort"], int):
        return port["targetPort"]
    slices = cluster.list("endpointslices", f"kubernetes.io/service-name={service}", namespace)
    numbers = [one["port"] for item in slices for one in item["ports"] or [] if one.get("name") == port.get("name", "")]
    return int(numbers[0] if numbers else port["port"])


def is_reachable(overlay: Overlay, pod: Pod, to: Target) -> bool:
    """Return whether the overlay's policies let pods reach a target; without policies they reach everything."""
    policies = [
        policy
        for policy in overlay.of("NetworkPolicy")
        if namespace_of(policy) == pod.namespace
        and "Egress" in policy["spec"].get("policyTypes", [])
        and _matches(policy["spec"].get("podSelector", {}), pod.labels)
    ]
    rules = [rule for policy in policies for rule in policy["spec"].get("egress", [])]
    return not policies or any(_allows(rule, pod, to) for rule in rules)


def _allows(rule: Object, pod: Pod, to: Target) -> bool:
    ports = [entry.get("port") for entry in rule.get("ports", []) if entry.get("protocol", "TCP") == "TCP"]
    if rule.get("ports") and to.port not in ports:
        return False
    peers = rule.get("to", [])
    return not peers or any(_is_peer(peer, pod, to) for peer in peers)


def _is_peer(peer: Object, pod: Pod, to: Target) -> bool:
    if "ipBlock" in peer:
        if to.namespace:
            return False
        block = peer["ipBlock"]
        of_family = [address for address in to.addresses if _is_version(address, block["cidr"])]
        # Without addresses, only the port can be checked.
        return not to.addresses or (bool(of_family) and all(_is_in(address, block) for address in of_family))
    namespaces = peer.get("namespaceSelector")
    is_namespace = (
        to.namespace == pod.namespace if namespaces is None else _matches(namespaces, {NAMESPACE_LABEL: to.namespace})
    )
    return bool(to.namespace) and is_namespace and _matches(peer.get("podSelector", {}), to.labels)


def _is_version(address: IPv4Address | IPv6Address, cidr: str) -> bool:
    return address.version == ip_network(cidr).version


def _is_in(address: IPv4Address | IPv6Address, block: Object) -> bool:
    excepted = [ip_network(one) for one in block.get("except", [])]
    return address in ip_network(block["cidr"]) and not any(address in one for one in excepted)


def _matches(selector: Object, labels: Mapping[str, str]) -> bool:
    exact = all(labels.get(name) == value for name, value in selector.get("matchLabels", {}).items())
    return exact and all(_is_met(condition, labels) for condition in selector.get("matchExpressions", []))


def _is_met(condition: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    value = labels.get(condition["key"])
    return {
        "Exists": value is not None,
        "DoesNotExist": value is None,
        "In": value in condition.get("values", ()),
        "NotIn": value not in condition.get("values", ()),
    }[condition["operator"]]
