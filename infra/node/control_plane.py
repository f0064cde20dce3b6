"""The control plane: etcd, kube-apiserver, kube-controller-manager, kube-scheduler, with keys created at the first start."""

import secrets

import httpx

from infra.node import daemons
from infra.node.layout import (
    API_SERVER,
    BINARIES,
    NODE,
    NODE_ADDRESS,
    POD_RANGE,
    SERVICE_RANGE,
    STATE,
    run,
)

KEYS = STATE / "keys"
ETCD = "http://127.0.0.1:2379"
#: name of a kubeconfig: user, group
USERS = {
    "kubeconfig": ("administrator", "system:masters"),
    "kubelet.kubeconfig": (f"system:node:{NODE}", "system:nodes"),
    "proxy.kubeconfig": ("system:kube-proxy", "system:node-proxier"),
    "scheduler.kubeconfig": ("system:kube-scheduler", ""),
    "controllers.kubeconfig": ("system:kube-controller-manager", ""),
}


def start() -> None:
    """Start the control plane, and wait until it is healthy."""
    if not (STATE / "tokens.csv").exists():
        make_keys()
    daemons.start(
        "etcd", BINARIES / "etcd", f"--data-dir={STATE}/etcd", f"--listen-client-urls={ETCD}",
        f"--advertise-client-urls={ETCD}", "--listen-peer-urls=http://127.0.0.1:2380",
        # A throw-away node may lose its data in a power failure.
        "--unsafe-no-fsync",
        healthy=lambda: answers(f"{ETCD}/health"),
    )  # fmt: skip
    daemons.start(
        "kube-apiserver", BINARIES / "kube-apiserver", f"--etcd-servers={ETCD}", f"--cert-dir={STATE}/certs",
        f"--advertise-address={NODE_ADDRESS}", "--kubelet-preferred-address-types=InternalIP", "--secure-port=6443", f"--service-cluster-ip-range={SERVICE_RANGE}",
        "--authorization-mode=Node,RBAC", "--enable-admission-plugins=NodeRestriction", "--allow-privileged",
        "--service-account-issuer=https://kubernetes.default.svc", f"--service-account-key-file={KEYS}/accounts.pub",
        f"--service-account-signing-key-file={KEYS}/accounts.key", f"--token-auth-file={STATE}/tokens.csv",
        f"--kubelet-client-certificate={KEYS}/client.crt", f"--kubelet-client-key={KEYS}/client.key",
        healthy=lambda: answers(f"{API_SERVER}/readyz"),
    )  # fmt: skip
    daemons.start(
        "kube-controller-manager", BINARIES / "kube-controller-manager", f"--kubeconfig={STATE}/controllers.kubeconfig",
        f"--service-account-private-key-file={KEYS}/accounts.key", f"--root-ca-file={STATE}/certs/apiserver.crt",
        "--use-service-account-credentials", "--leader-elect=false", f"--cluster-cidr={POD_RANGE}", "--allocate-node-cidrs",
        # Notice a lost node within half a minute instead of five minutes.
        "--node-monitor-grace-period=20s", "--bind-address=127.0.0.1", "--terminated-pod-gc-threshold=500",
        healthy=lambda: answers("https://127.0.0.1:10257/healthz"),
    )  # fmt: skip
    daemons.start(
        "kube-scheduler", BINARIES / "kube-scheduler", f"--kubeconfig={STATE}/scheduler.kubeconfig", "--leader-elect=false",
        "--bind-address=127.0.0.1",
        healthy=lambda: answers("https://127.0.0.1:10259/healthz"),
    )  # fmt: skip


def make_keys() -> None:
    """Create the keys of service accounts, the API server's client certificate for the kubelet, and a token for each user."""
    KEYS.mkdir(parents=True, mode=0o700, exist_ok=True)
    run("openssl", "genrsa", "-out", "accounts.key", "2048", cwd=KEYS)
    run("openssl", "rsa", "-in", "accounts.key", "-pubout", "-out", "accounts.pub", cwd=KEYS)
    run(
        "openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "365", "-subj", "/O=system:masters/CN=kube-apiserver",
        "-keyout", "client.key", "-out", "client.crt", cwd=KEYS,
    )  # fmt: skip
    rows = []
    for name, (user, group) in USERS.items():
        token = secrets.token_hex(16)
        rows.append(f'{token},{user},{user},"{group}"\n')
        write_kubeconfig(name, token)
    tokens = STATE / "tokens.csv"
    tokens.touch(mode=0o600)
    tokens.write_text("".join(rows))


def write_kubeconfig(name: str, token: str) -> None:
    """Write the kubeconfig of one user."""
    path = STATE / name
    path.touch(mode=0o600)
    path.write_text(
        f"""apiVersion: v1
kind: Config
clusters: [{{name: node, cluster: {{server: "{API_SERVER}", certificate-authority: {STATE}/certs/apiserver.crt}}}}]
users: [{{name: user, user: {{token: {token}}}}}]
contexts: [{{name: node, context: {{cluster: node, user: user}}}}]
current-context: node
"""
    )


def answers(url: str) -> bool:
    """Return whether a health endpoint responds with success; its certificate is not verified."""
    try:
        return httpx.get(url, verify=False, timeout=2).is_success  # noqa: S501
    except httpx.TransportError:
        return False
