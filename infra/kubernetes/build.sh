#!/bin/sh
# Build Kubernetes, Knative and what stands beside them from their Go modules; needs Go 1.26 or newer.
#
#   build.sh control-plane   etcd, kube-apiserver, kube-controller-manager, kubectl: for tests against a real API server
#   build.sh node            all of that, and what a node with Knative on it needs
#   build.sh kueue           Kueue's controller, for a node with queues
#   build.sh collector       the OpenTelemetry Collector with the parts of knative/components/logs
#
# What is built is kept by version below ~/.cache/stoker, outside of the checkout: the second call does nothing.
set -eu
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd -P)
cache="${XDG_CACHE_HOME:-$HOME/.cache}/stoker"
kubernetes=v1.35.4
stamp=k8s.io/component-base/version
flags="-s -w -X $stamp.gitVersion=$kubernetes -X $stamp.gitMajor=1 -X $stamp.gitMinor=35 -X $stamp.gitTreeState=clean \
-X k8s.io/client-go/pkg/version.gitVersion=$kubernetes"

build() { # folder with the go.mod, folder in the cache, package, name
    target="$cache/$2/$4"
    [ -x "$target" ] && return
    echo "building $4" >&2
    mkdir -p "$(dirname "$target")"
    (cd "$here/$1" && CGO_ENABLED=0 go build -trimpath -ldflags "$flags" -o "$target.part" "$3")
    mv "$target.part" "$target"
}

command -v go >/dev/null || { echo "Go 1.26 or newer is needed: https://go.dev/dl" >&2; exit 1; }
case "${1:-}" in
kueue) build kueue kueue-v0.19.2 sigs.k8s.io/kueue/cmd/kueue kueue; exit 0 ;;
collector) build collector collector-v0.165.1 . collector; exit 0 ;;
esac
build etcd "kubernetes-$kubernetes" go.etcd.io/etcd/server/v3 etcd
for name in kube-apiserver kube-controller-manager kubectl; do
    build kubernetes "kubernetes-$kubernetes" "k8s.io/kubernetes/cmd/$name" "$name"
done
[ "${1:-control-plane}" = node ] || exit 0

for name in kube-scheduler kubelet kube-proxy; do
    build kubernetes "kubernetes-$kubernetes" "k8s.io/kubernetes/cmd/$name" "$name"
done
build coredns "kubernetes-$kubernetes" github.com/coredns/coredns coredns
build collector collector-v0.165.1 . collector
build kube-router "kubernetes-$kubernetes" github.com/cloudnativelabs/kube-router/v2/cmd/kube-router kube-router
for folder in knative kourier; do
    # A package is what its image is called in Knative's manifests, after ko://.
    for package in $(cd "$here/$folder" && go list tool); do
        build "$folder" knative-v0.50.0 "$package" "$package"
    done
done
