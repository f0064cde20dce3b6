"""The node itself: network, containerd, kubelet, kube-proxy, and kube-router for NetworkPolicies."""

import json
import shutil
from contextlib import suppress
from pathlib import Path

from infra.node import daemons
from infra.node.control_plane import KEYS, answers
from infra.node.layout import (
    BINARIES,
    CACHE,
    CONTAINERD,
    DNS_SERVICE,
    NODE,
    NODE_ADDRESS,
    POD_RANGE,
    SERVICE_RANGE,
    SOCKETS,
    STATE,
    ctr,
    kubectl,
    run,
)

PAUSE = "stoker.local/pause:1"
INTERFACE = "stoker-node"
SYSCTLS = {
    "net/ipv4/ip_forward": "1",
    # Apply kube-proxy's rules also to traffic between pods of one bridge.
    "net/bridge/bridge-nf-call-iptables": "1",
    "fs/inotify/max_user_instances": "1024",
}


def start_network() -> None:
    """Create the interface with the node's address, and configure the bridge of the pods."""
    for name, value in SYSCTLS.items():
        Path("/proc/sys", name).write_text(value)
    if not Path("/sys/class/net", INTERFACE).exists():
        run("ip", "link", "add", INTERFACE, "type", "bridge")
        run("ip", "address", "add", f"{NODE_ADDRESS}/32", "dev", INTERFACE)
        run("ip", "link", "set", INTERFACE, "up")
    plugins = STATE / "cni"
    plugins.mkdir(parents=True, exist_ok=True)
    (plugins / "10-stoker.conflist").write_text(json.dumps(CNI))


#: ``hairpinMode``: a pod can reach itself through its Service
CNI = {
    "cniVersion": "1.0.0",
    "name": "stoker",
    "plugins": [
        {
            "type": "bridge", "bridge": "stoker-pods", "isDefaultGateway": True, "ipMasq": True, "hairpinMode": True,
            "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.244.0.0/24"}]], "dataDir": str(STATE / "addresses")},
        },
        {"type": "portmap", "capabilities": {"portMappings": True}},
    ],
}  # fmt: skip


def start_containerd() -> None:
    """Start a containerd for the node, separate from one that the machine may have."""
    SOCKETS.mkdir(parents=True, exist_ok=True)
    config = STATE / "containerd.toml"
    config.write_text(
        f"""version = 2
root = "{CACHE}/containerd"
state = "{SOCKETS}/containerd"
[grpc]
  address = "{CONTAINERD}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE}"
  # Inside of a virtual machine or container, even root may not ask to be spared by the OOM killer more than it is.
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{STATE}/cni"
"""
    )
    daemons.start("containerd", "containerd", "--config", config, healthy=responds, starts_pods=True)


def responds() -> bool:
    """Return whether containerd responds."""
    if not CONTAINERD.exists():
        return False
    with suppress(SystemExit):
        ctr("version")
        return True
    return False


def start_kubelet() -> None:
    """Start the kubelet, and wait until the node is Ready."""
    (STATE / "resolv.conf").write_text("nameserver 127.0.0.1\n")
    config = {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {"anonymous": {"enabled": False}, "x509": {"clientCAFile": f"{KEYS}/client.crt"}},
        "authorization": {"mode": "AlwaysAllow"},
        "cgroupDriver": "cgroupfs",
        "failCgroupV1": False,
        "failSwapOn": False,
        "clusterDNS": [DNS_SERVICE],
        "clusterDomain": "cluster.local",
        "containerRuntimeEndpoint": f"unix://{CONTAINERD}",
        "resolvConf": str(STATE / "resolv.conf"),
        "maxPods": 250,
        "nodeStatusUpdateFrequency": "5s",
        # Low thresholds: the node shares the machine's disk.
        "evictionHard": {"memory.available": "100Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
        "imageGCHighThresholdPercent": 100,
    }
    path = STATE / "kubelet.json"
    path.write_text(json.dumps(config))
    daemons.start(
        "kubelet", BINARIES / "kubelet", f"--config={path}", f"--kubeconfig={STATE}/kubelet.kubeconfig",
        f"--hostname-override={NODE}", f"--node-ip={NODE_ADDRESS}", f"--root-dir={STATE}/kubelet",
        healthy=is_ready,
    )  # fmt: skip


def is_ready() -> bool:
    """Return whether the node is Ready."""
    with suppress(SystemExit):
        query = "jsonpath={.status.conditions[?(@.type=='Ready')].status}"
        return kubectl("get", "node", NODE, "-o", query) == "True"
    return False


def start_proxies() -> None:
    """Start kube-proxy, which implements Services, and kube-router, which enforces NetworkPolicies."""
    daemons.start(
        "kube-proxy", BINARIES / "kube-proxy", f"--kubeconfig={STATE}/proxy.kubeconfig", "--proxy-mode=iptables",
        f"--cluster-cidr={POD_RANGE}", f"--hostname-override={NODE}", "--conntrack-max-per-core=0",
        healthy=lambda: answers("http://127.0.0.1:10256/healthz"),
    )  # fmt: skip
    daemons.start(
        "kube-router", BINARIES / "kube-router", f"--kubeconfig={STATE}/kubeconfig", "--run-router=false",
        "--run-service-proxy=false", "--run-firewall=true", f"--hostname-override={NODE}",
        f"--service-cluster-ip-range={SERVICE_RANGE}", "--health-port=20244",
        healthy=lambda: answers("http://127.0.0.1:20244/healthz"),
    )  # fmt: skip


def stop_pods() -> None:
    """Stop the containers of all pods, so that no process is left after containerd has stopped."""
    if not CONTAINERD.exists() or not responds():
        return
    daemons.stop("kubelet")
    for task in ctr("tasks", "list", "--quiet").split():
        with suppress(SystemExit):
            ctr("tasks", "delete", "--force", task)
    for container in ctr("containers", "list", "--quiet").split():
        with suppress(SystemExit):
            ctr("containers", "delete", container)


def remove_traces() -> None:
    """Remove mounts, interfaces and rules."""
    for line in reversed(Path("/proc/self/mounts").read_text().splitlines()):
        mount_point = line.split()[1]
        if mount_point.startswith((str(STATE), str(SOCKETS))):
            run("umount", "--lazy", mount_point)
    # Deleting the bridge's end of a veth pair also deletes the pod's end.
    ends = [path.name for path in Path("/sys/class/net/stoker-pods/brif").glob("*")]
    for name in (*ends, INTERFACE, "stoker-pods"):
        if Path("/sys/class/net", name).exists():
            run("ip", "link", "delete", name)
    for program, flag in (("kube-proxy", "--cleanup"), ("kube-router", "--cleanup-config")):
        with suppress(SystemExit):
            run(BINARIES / program, flag)


def missing_programs() -> list[str]:
    """Return the Debian packages that are not installed."""
    programs = {
        "containerd": "containerd", "runc": "runc", "buildah": "buildah", "debootstrap": "debootstrap", "ipset": "ipset",
        "iptables": "iptables", "conntrack": "conntrack", "ip": "iproute2", "openssl": "openssl", "catatonit": "catatonit",
    }  # fmt: skip
    absent = [package for program, package in programs.items() if not shutil.which(program)]
    return absent + ([] if Path("/usr/lib/cni/bridge").exists() else ["containernetworking-plugins"])
