"""Install Kueue on the node, built from its Go module, with its own manifests; only tests need it."""

import re

from infra.node import images, knative
from infra.node.layout import CACHE, HERE, apply, kubectl, run

PROGRAM = CACHE / "kueue-v0.19.2/kueue"
IMAGE = "stoker.local/kueue:0.19.2"


def start() -> None:
    """Install Kueue, and wait until its controller is available; its webhooks respond a moment later."""
    run("sh", HERE.parent / "kubernetes/build.sh", "kueue")
    if IMAGE not in images.present():
        images.build(IMAGE, images.HERE / "binary.Dockerfile", programs={"main": PROGRAM})
    module = knative.folders("kueue", "sigs.k8s.io/kueue")["sigs.k8s.io/kueue"]
    manifests = kubectl("kustomize", str(module / "config/default"))
    manifests = re.sub(r"image: \S+/kueue:main", f"image: {IMAGE}", manifests)
    # The module's manifests start its image's /manager.
    apply(
        manifests.replace("- /manager", "- /main").replace("imagePullPolicy: Always", "imagePullPolicy: IfNotPresent")
    )
    kubectl("wait", "--for=condition=Available", "deployment", "--all", "-n", "kueue-system", "--timeout=180s")


def stop() -> None:
    """Remove Kueue and its queues; otherwise its webhooks are called for every Job."""
    kubectl(
        "delete", "validatingwebhookconfigurations,mutatingwebhookconfigurations", "-l", "app.kubernetes.io/name=kueue"
    )
    kubectl("delete", "namespace", "kueue-system", "--wait=false")
