#!/bin/sh
# Build a Kubernetes control plane from its Go modules, for tests against a real API server; needs Go 1.25 or newer.
#
# What is built is kept by version below ~/.cache/stoker, outside of the checkout: the second call does nothing.
set -eu
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd -P)
version=v1.35.4
target="${XDG_CACHE_HOME:-$HOME/.cache}/stoker/kubernetes-$version"
stamp=k8s.io/component-base/version
flags="-s -w -X $stamp.gitVersion=$version -X $stamp.gitMajor=1 -X $stamp.gitMinor=35 -X $stamp.gitTreeState=clean \
-X k8s.io/client-go/pkg/version.gitVersion=$version"

build() { # module's folder, package, name
    [ -x "$target/$3" ] && return
    echo "building $3" >&2
    (cd "$here/$1" && CGO_ENABLED=0 go build -trimpath -ldflags "$flags" -o "$target/$3.part" "$2")
    mv "$target/$3.part" "$target/$3"
}

command -v go >/dev/null || { echo "Go 1.25 or newer is needed: https://go.dev/dl" >&2; exit 1; }
mkdir -p "$target"
build etcd go.etcd.io/etcd/server/v3 etcd
for name in kube-apiserver kube-controller-manager kubectl; do
    build kubernetes "k8s.io/kubernetes/cmd/$name" "$name"
done
echo "$target"
