"""A Kubernetes node with Knative, without Docker: ``python -m infra.node up``, ``down``, ``status``, ``trainer``."""

import os
import shutil
import sys
import time
from collections.abc import Callable

from infra.node import control_plane, daemons, images, knative, machine, stoker
from infra.node.layout import HERE, KUBECONFIG, SOCKETS, STATE, apply, kubectl, run

#: started from top to bottom, stopped from bottom to top
DAEMONS = (
    "etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "containerd", "kubelet", "kube-proxy", "kube-router",
)  # fmt: skip


def up() -> None:
    """Start everything that is not running, and print how long each step took."""
    if os.geteuid():
        raise SystemExit("a node needs root: it creates network interfaces, mounts and namespaces")
    STATE.mkdir(mode=0o700, parents=True, exist_ok=True)
    step("packages of Debian", install_packages)
    step("programs", lambda: run("sh", HERE.parent / "kubernetes/build.sh", "node"))
    step("network", machine.start_network)
    step("control plane", control_plane.start)
    step("containerd", machine.start_containerd)
    step("images", images.build_all)
    step("kubelet", machine.start_kubelet)
    step("proxies", machine.start_proxies)
    step("DNS", start_dns)
    step("Knative", knative.start)
    step("Stoker", stoker.start)
    print(f"\nexport KUBECONFIG={KUBECONFIG}")


def step(name: str, work: Callable[[], object]) -> None:
    """Run one step, and print how long it took."""
    began = time.monotonic()
    work()
    print(f"{name:20} {time.monotonic() - began:7.1f} s", flush=True)


def install_packages() -> None:
    """Install missing Debian packages."""
    if missing := machine.missing_programs():
        run("apt-get", "update", "--quiet")
        run("apt-get", "install", "--yes", "--quiet", "--no-install-recommends", *missing)


def start_dns() -> None:
    """Start the DNS server of the cluster."""
    apply((HERE / "dns.yaml").read_text())
    kubectl("rollout", "status", "deployment/coredns", "-n", "kube-system", "--timeout=60s")


def down() -> None:
    """Stop the node and remove everything except the cached binaries and images."""
    machine.stop_pods()
    for name in reversed(DAEMONS):
        daemons.stop(name)
    machine.remove_traces()
    shutil.rmtree(STATE, ignore_errors=True)
    shutil.rmtree(SOCKETS, ignore_errors=True)


def status() -> None:
    """Print the processes and the pods; exit with 1 unless all processes run."""
    running = {name: daemons.alive(name) for name in DAEMONS}
    for name, is_alive in running.items():
        print(f"{name:26} {'running' if is_alive else 'stopped'}")
    if not all(running.values()):
        raise SystemExit(1)
    print(kubectl("get", "nodes,pods", "--all-namespaces", "-o", "wide"))


if __name__ == "__main__":
    commands: dict[str, Callable[..., object]] = {
        "up": up,
        "down": down,
        "status": status,
        "trainer": images.build_trainer,
    }
    commands[sys.argv[1]](*sys.argv[2:])
