"""Every overlay and component, as an API server takes it that knows the custom resources: strictly, and without a warning."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from functions.runtime import registry, settings
from infra.node.layout import BINARIES, run
from tests.cluster.conftest import Cluster, kubectl
from tests.conftest import ROOT, forget

pytestmark = pytest.mark.timeout(600)
OVERLAYS = sorted(path.parent.name for path in ROOT.glob("knative/overlays/*/kustomization.yaml"))
COMPONENTS = sorted(path.parent.name for path in ROOT.glob("knative/components/*/kustomization.yaml"))
#: in the overlays already
USED = {"broker", "job-changes", "network", "one-service", "storage-inside"}
PRODUCTION_AND = sorted(set(COMPONENTS) - USED)


@pytest.fixture
def rendered(tmp_path: Path) -> Callable[..., str]:
    """Render an overlay, with components that it does not name itself."""

    def render(overlay: str, *components: str) -> str:
        if not components:
            return run(BINARIES / "kubectl", "kustomize", ROOT / "knative/overlays" / overlay)
        made = {
            "kind": "Kustomization",
            "resources": [os.path.relpath(ROOT / "knative/overlays" / overlay, tmp_path.resolve())],
            "components": [
                os.path.relpath(ROOT / "knative/components" / one, tmp_path.resolve()) for one in components
            ],
        }
        (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(made))
        return run(BINARIES / "kubectl", "kustomize", tmp_path)

    return render


@pytest.fixture
def applied(cluster: Path) -> Callable[[str], None]:
    """Apply manifests to the API server as a dry run; only namespaces are created."""
    for namespace in ("kourier-system", "stoker-sources", "stoker-logs"):
        kubectl(cluster, "create", "namespace", namespace)

    def apply(manifests: str) -> None:
        words = ("apply", "--server-side", "--force-conflicts", "--validate=strict", "--dry-run=server", "-f", "-")
        done = kubectl(cluster, *words, stdin=manifests)

        assert done.returncode == 0, done.stderr
        assert not done.stderr

    return apply


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_an_overlay_is_taken_strictly_and_without_a_warning(
    overlay: str, rendered: Callable[..., str], applied: Callable[[str], None]
) -> None:
    applied(rendered(overlay))


@pytest.mark.parametrize("components", [[one] for one in PRODUCTION_AND] + [PRODUCTION_AND], ids="-".join)
def test_a_component_is_taken_with_the_production_overlay(
    components: list[str], rendered: Callable[..., str], applied: Callable[[str], None]
) -> None:
    applied(rendered("production", *components))


#: one of each kind of object
MISSPELT = {
    "deadLetterSink", "subscriber", "namespaceSelector", "schedule", "containerConcurrency", "backoffLimit", "parentRefs",
    "gatewayClassName", "clusterQueue", "nodeLabels", "waitTimeSeconds", "refreshInterval", "policyTypes", "failurePolicy",
}  # fmt: skip


def test_a_misspelt_field_would_have_been_noticed(rendered: Callable[..., str], applied: Callable[[str], None]) -> None:
    manifests = rendered("production", *PRODUCTION_AND)
    for field in MISSPELT:
        manifests = manifests.replace(f" {field}:", f" {field}Misspelt:")

    with pytest.raises(AssertionError) as refused:
        applied(manifests)
    assert {field for field in MISSPELT if f"{field}Misspelt" not in str(refused.value)} == set()


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_functions_pod_is_as_the_namespace_wants_it(
    overlay: str, rendered: Callable[..., str], kubernetes: Cluster
) -> None:
    services = knative_services(rendered(overlay))
    assert services
    for service in services:
        spec = service["spec"]["template"]["spec"]
        plain = {key: spec[key] for key in ("containers", "volumes", "serviceAccountName", "enableServiceLinks")}
        # The kubelet's own; Knative gives them names of its own.
        plain["containers"][0]["ports"][0]["name"] = "user-port"
        pod = {"kind": "Pod", "metadata": {"name": service["metadata"]["name"]}, "spec": plain}
        kubernetes.create(pod, "stoker", dry_run="All")


def knative_services(manifests: str) -> list[dict[str, Any]]:
    return [
        document
        for document in yaml.safe_load_all(manifests)
        if document["kind"] == "Service" and document["apiVersion"] == "serving.knative.dev/v1"
    ]


def test_the_small_overlay_is_one_service_with_all_that_create_job_has(rendered: Callable[..., str]) -> None:
    (one,) = knative_services(rendered("small"))
    (create_job,) = (
        document for document in knative_services(rendered("kind")) if document["metadata"]["name"] == "create-job"
    )

    spec, other = (document["spec"]["template"]["spec"] for document in (one, create_job))
    for each in (spec, other):
        del each["containers"][0]["image"]
    other["serviceAccountName"] = "sweep"
    other["containers"][0]["env"][0]["value"] = "front"
    assert spec == other


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_settings_of_an_overlay_are_settings_that_the_functions_take(
    overlay: str, rendered: Callable[..., str], environment: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    maps = {
        document["metadata"]["name"]: document["data"]
        for document in yaml.safe_load_all(rendered(overlay))
        if document["kind"] == "ConfigMap"
    }
    file = tmp_path / "trainers.json"
    # The image has the declarations below /srv.
    file.write_text(maps["trainers"]["trainers.json"].replace('"/srv/', f'"{ROOT}/'))
    known = {name.upper() for name in settings.Settings.__struct_fields__}
    assert maps["stoker"].keys() <= known
    for name, value in maps["stoker"].items():
        environment.setenv(name, value)
    environment.setenv("TRAINERS", str(file))
    forget()

    assert settings.settings().launcher == "kubernetes"
    assert all(trainer.image for trainer in registry.trainers().values())


def objects_of(manifests: str, kind: str) -> list[dict[str, Any]]:
    return [one for one in yaml.safe_load_all(manifests) if one["kind"] == kind]


@pytest.mark.parametrize("overlay", ["kind", "production"])
def test_the_front_is_rolled_by_its_configuration_spread_over_nodes_and_drained(
    overlay: str, rendered: Callable[..., str]
) -> None:
    manifests = rendered(overlay)
    (front,) = [one for one in objects_of(manifests, "Deployment") if one["metadata"]["name"] == "front"]
    spec = front["spec"]["template"]["spec"]
    (configuration,) = [one for one in objects_of(manifests, "ConfigMap") if "envoy.yaml" in one["data"]]
    name = configuration["metadata"]["name"]

    assert name.startswith("front-")
    assert [volume["configMap"]["name"] for volume in spec["volumes"]] == [name]
    assert [one["topologyKey"] for one in spec["topologySpreadConstraints"]] == ["kubernetes.io/hostname"]
    (container,) = spec["containers"]
    stays_seconds = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    manager = yaml.safe_load(configuration["data"]["envoy.yaml"])["static_resources"]["listeners"][0]["filter_chains"][
        0
    ]
    options = manager["filters"][0]["typed_config"]
    longest_call = max(
        int(route["route"]["timeout"].rstrip("s"))
        for route in options["route_config"]["virtual_hosts"][0]["routes"]
        if "route" in route
    )
    moves_away = int(options["common_http_protocol_options"]["max_connection_duration"].rstrip("s"))
    assert moves_away + longest_call < stays_seconds < spec["terminationGracePeriodSeconds"]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_functions_pods_are_found_by_a_label(overlay: str, rendered: Callable[..., str]) -> None:
    for service in knative_services(rendered(overlay)):
        assert service["spec"]["template"]["metadata"]["labels"] == {"app.kubernetes.io/part-of": "stoker"}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_migration_is_a_job_that_reconcilers_replace_and_policies_find(
    overlay: str, rendered: Callable[..., str]
) -> None:
    manifests = rendered(overlay)
    (job,) = objects_of(manifests, "Job")
    assert job["metadata"]["annotations"] == {
        "argocd.argoproj.io/hook": "Sync",
        "argocd.argoproj.io/hook-delete-policy": "BeforeHookCreation",
        "kustomize.toolkit.fluxcd.io/force": "enabled",
    }
    # A reconciler would create again what has deleted itself.
    assert "ttlSecondsAfterFinished" not in job["spec"]
    labels = job["spec"]["template"]["metadata"]["labels"]
    for policy in objects_of(manifests, "NetworkPolicy"):
        if policy["metadata"]["name"] == "migrate":
            assert policy["spec"]["podSelector"]["matchLabels"].items() <= labels.items()


def test_releases_have_migrations_of_their_own_names(cluster: Path, rendered: Callable[..., str]) -> None:
    """A Job's template cannot change, so that the next image would be refused under the same name."""
    kubectl(cluster, "create", "namespace", "stoker")
    (job,) = objects_of(rendered("production"), "Job")
    later = yaml.safe_load(yaml.safe_dump(job).replace("@sha256:0", "@sha256:1"))
    apply = ("apply", "--server-side", "-f", "-")
    assert kubectl(cluster, *apply, stdin=yaml.safe_dump(job)).returncode == 0
    assert "field is immutable" in kubectl(cluster, *apply, stdin=yaml.safe_dump(later)).stderr

    later["metadata"]["name"] = "migrate-2"
    assert kubectl(cluster, *apply, stdin=yaml.safe_dump(later)).returncode == 0
    kubectl(cluster, "delete", "job", "-n", "stoker", "-l", "app.kubernetes.io/name=migrate").check_returncode()
