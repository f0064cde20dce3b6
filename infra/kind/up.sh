#!/bin/sh
# A kind cluster with Knative and Stoker on it, for those who have Docker, kind and kubectl: ./taskw kind:up
#
# Never run where it was written, which has no Docker engine. The same overlay runs on the node without Docker (infra/node).
set -eu
cd "$(dirname "$0")/../.."
serving=knative-v1.23.0 kourier=knative-v1.23.0 eventing=knative-v1.23.0
releases=https://github.com/knative
base=stoker.local/base:bookworm

for program in docker kind kubectl; do
    command -v "$program" >/dev/null || { echo "$program is needed, and not installed" >&2; exit 1; }
done
kind get clusters | grep -qx stoker || kind create cluster --name stoker --config infra/kind/cluster.yaml
kubectl config use-context kind-stoker

kubectl apply --server-side -f "$releases/serving/releases/download/$serving/serving-crds.yaml"
kubectl apply --server-side -f "$releases/eventing/releases/download/$eventing/eventing-crds.yaml"
kubectl wait --for=condition=Established crd --all --timeout=60s
for file in serving/releases/download/$serving/serving-core.yaml net-kourier/releases/download/$kourier/kourier.yaml \
    eventing/releases/download/$eventing/eventing-core.yaml eventing/releases/download/$eventing/in-memory-channel.yaml \
    eventing/releases/download/$eventing/mt-channel-broker.yaml; do
    kubectl apply --server-side --force-conflicts -f "$releases/$file"
done
settings() { kubectl patch configmap "$1" -n "$2" --type merge -p "{\"data\": $3}"; }
settings config-network knative-serving '{"ingress-class": "kourier.ingress.networking.knative.dev"}'
# The images are loaded, not pulled: no registry can resolve a tag to a digest.
settings config-deployment knative-serving '{"registries-skipping-tag-resolving": "stoker.local"}'
settings config-features knative-eventing '{"authentication-oidc": "enabled"}'
for namespace in knative-serving kourier-system knative-eventing; do
    kubectl wait --for=condition=Available deployment --all -n "$namespace" --timeout=300s
done

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
docker build --quiet --tag "$base" - <<DOCKERFILE
FROM debian:bookworm-slim
RUN apt-get update && apt-get install --yes --no-install-recommends python3 python3-pip python-is-python3 ca-certificates
DOCKERFILE
image() { # name, Dockerfile, folder
    docker build --quiet --build-arg "BASE=$base" --tag "$1" --file "$2" "$3"
    kind load docker-image "$1" --name stoker
}
python() { uv run --isolated --locked --quiet --group node python "$@"; }
program() { # name of the program, expression of its path; copied at once, because the environment is a temporary one
    mkdir "$folder/$1"
    python -c "import shutil; from infra.node import images; shutil.copy($2, '$folder/$1/$1')"
}
program envoy 'images.envoy()'
program weed 'shutil.which("weed")'
image stoker.local/envoy:1.40 infra/node/images/envoy.Dockerfile "$folder/envoy"
image stoker.local/seaweedfs:1 infra/node/images/seaweedfs.Dockerfile "$folder/weed"
image stoker.local/postgres:15 infra/node/images/postgres.Dockerfile infra/node/images
image stoker.local/functions:1 functions/Dockerfile .
image stoker.local/trainer-stub:1 infra/node/images/stub.Dockerfile tests/contract/trainers

if ! kubectl get secret stoker -n stoker >/dev/null 2>&1; then
    kubectl create namespace stoker --dry-run=client -o yaml | kubectl apply -f -
    python -c 'import json; from infra.node.stoker import secret_objects
print(json.dumps({"apiVersion": "v1", "kind": "List", "items": secret_objects()}))' | kubectl apply -f -
fi
# A Job's template cannot be changed: an upgrade runs a new one.
kubectl delete job -l app.kubernetes.io/name=migrate -n stoker --ignore-not-found
kubectl apply --server-side --force-conflicts -k knative/overlays/kind
kubectl wait --for=condition=Complete job -l app.kubernetes.io/name=migrate -n stoker --timeout=180s
kubectl wait --for=condition=Ready ksvc --all -n stoker --timeout=300s
echo "kubectl port-forward -n stoker service/front 8080   # then http://127.0.0.1:8080"
