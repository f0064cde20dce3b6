"""The node's folders and addresses, and how to run its commands."""

import os
import subprocess
import time
from pathlib import Path

HERE = Path(__file__).parent
PROJECT = HERE.parent.parent
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "stoker"
BINARIES = CACHE / "kubernetes-v1.35.4"
KNATIVE = CACHE / "knative-v0.50.0"
#: all of the node's state; `down` removes it
STATE = Path("/var/lib/stoker-node")
#: a separate folder, because the paths of sockets must be short
SOCKETS = Path("/run/stoker-node")
KUBECONFIG = STATE / "kubeconfig"
CONTAINERD = SOCKETS / "containerd.sock"

NODE = "stoker-node"
#: on a separate interface, so that the node does not depend on the machine's network
NODE_ADDRESS = "10.250.0.1"
POD_RANGE = "10.244.0.0/16"
SERVICE_RANGE = "10.96.0.0/16"
DNS_SERVICE = "10.96.0.10"
API_SERVER = f"https://{NODE_ADDRESS}:6443"
#: how long to wait for webhooks that do not respond
WEBHOOK_SECONDS = 120


def run(*command: str | Path, stdin: str | None = None, cwd: Path | None = None) -> str:
    """Return what a command printed.

    Raises:
        SystemExit: it failed; the message contains its output.
    """
    done = subprocess.run(
        [str(word) for word in command], input=stdin, cwd=cwd, capture_output=True, text=True, check=False
    )
    if done.returncode:
        words = " ".join(str(word) for word in command)
        raise SystemExit(f"{words}: exit {done.returncode}\n{done.stderr[-4000:] or done.stdout[-4000:]}")
    return done.stdout


def kubectl(*words: str, stdin: str | None = None) -> str:
    """Run kubectl as the node's administrator, and return its output."""
    return run(BINARIES / "kubectl", f"--kubeconfig={KUBECONFIG}", *words, stdin=stdin)


def ctr(*words: str | Path) -> str:
    """Run containerd's client in the namespace of the kubelet's images and containers, and return its output."""
    return run("ctr", "--address", CONTAINERD, "--namespace", "k8s.io", *words)


def apply(manifests: str) -> None:
    """Apply manifests strictly: a field that the API server does not know is an error.

    Retry while a webhook does not respond: it may be slow, or be started by these manifests.
    """
    end = time.monotonic() + WEBHOOK_SECONDS
    while True:
        try:
            kubectl("apply", "--server-side", "--force-conflicts", "--validate=strict", "-f", "-", stdin=manifests)
        except SystemExit as refused:
            if "failed calling webhook" not in str(refused) or time.monotonic() > end:
                raise
            time.sleep(1)
        else:
            return
