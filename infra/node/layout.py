"""Where the node keeps what it has, and its addresses."""

import os
import subprocess
import time
from pathlib import Path

HERE = Path(__file__).parent
PROJECT = HERE.parent.parent
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "stoker"
BINARIES = CACHE / "kubernetes-v1.35.4"
KNATIVE = CACHE / "knative-v0.50.0"
#: all state, and nothing else: `down` removes it
STATE = Path("/var/lib/stoker-node")
#: sockets, whose paths must be short
SOCKETS = Path("/run/stoker-node")
KUBECONFIG = STATE / "kubeconfig"
CONTAINERD = SOCKETS / "containerd.sock"

NODE = "stoker-node"
#: of an interface of the node's own, so that nothing depends on the machine's network
NODE_ADDRESS = "10.250.0.1"
POD_RANGE = "10.244.0.0/16"
SERVICE_RANGE = "10.96.0.0/16"
DNS_SERVICE = "10.96.0.10"
API_SERVER = f"https://{NODE_ADDRESS}:6443"
#: how long a webhook may not answer
WEBHOOK_SECONDS = 120


def run(*command: str | Path, given: str | None = None, cwd: Path | None = None) -> str:
    """Return what a command printed.

    Raises:
        SystemExit: it failed; with what it said.
    """
    done = subprocess.run(
        [str(word) for word in command], input=given, cwd=cwd, capture_output=True, text=True, check=False
    )
    if done.returncode:
        words = " ".join(str(word) for word in command)
        raise SystemExit(f"{words}: exit {done.returncode}\n{done.stderr[-4000:] or done.stdout[-4000:]}")
    return done.stdout


def kubectl(*words: str, given: str | None = None) -> str:
    """Return what kubectl printed, as the node's administrator."""
    return run(BINARIES / "kubectl", f"--kubeconfig={KUBECONFIG}", *words, given=given)


def ctr(*words: str | Path) -> str:
    """Return what containerd's own client printed, of the images and containers that the kubelet sees."""
    return run("ctr", "--address", CONTAINERD, "--namespace", "k8s.io", *words)


def apply(manifests: str) -> None:
    """Apply manifests, strictly: a field that the API server does not know is an error.

    Again, where a webhook does not answer: it takes its time on a busy machine, or starts with these very manifests.
    """
    end = time.monotonic() + WEBHOOK_SECONDS
    while True:
        try:
            kubectl("apply", "--server-side", "--force-conflicts", "--validate=strict", "-f", "-", given=manifests)
        except SystemExit as refused:
            if "failed calling webhook" not in str(refused) or time.monotonic() > end:
                raise
            time.sleep(1)
        else:
            return
