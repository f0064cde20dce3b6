"""The custom resource definitions that our manifests are written for, from the Go modules of those who wrote them."""

import json
import subprocess
from pathlib import Path
from typing import Any

import yaml

from tests.conftest import ROOT

#: checked by Go against its public log of checksums
MODULES = {
    "sigs.k8s.io/gateway-api@v1.4.1": "config/crd/standard/*.yaml",
    "sigs.k8s.io/kueue@v0.17.0": "config/components/crd/bases/*.yaml",
    "github.com/external-secrets/external-secrets@v0.16.2": "config/crds/bases/external-secrets.io_externalsecrets.yaml",
}
#: at the versions of the node's own go.mod
KNATIVE = {
    "knative.dev/serving": "config/core/300-resources/service.yaml",
    "knative.dev/eventing": "config/core/resources/*.yaml",
}


def manifests() -> str:
    """Return them so that a field which they do not name is unknown, though some let anything pass beside what they name."""
    found = [one for file in _files() for one in yaml.safe_load_all(file.read_text()) if one]
    text: str = yaml.safe_dump_all(_strict(one) for one in found)
    return text


def _strict(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_strict(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    named = {key: _strict(value) for key, value in schema.items()}
    if "x-kubernetes-preserve-unknown-fields" in named and isinstance(named.get("properties"), dict):
        del named["x-kubernetes-preserve-unknown-fields"]
        if "deadLetterSink" in named["properties"]:
            named["properties"]["timeout"] = {
                "type": "string"
            }  # in Go's types, and on by default; only the schema lacks it
    return named


def _files() -> list[Path]:
    folders = _download(ROOT / "infra/kubernetes/knative", *KNATIVE) | _download(Path("/"), *MODULES)
    return [
        file
        for module, pattern in (KNATIVE | MODULES).items()
        for file in sorted(folders[module.partition("@")[0]].glob(pattern))
        if file.name != "kustomization.yaml"
    ]


def _download(where: Path, *modules: str) -> dict[str, Path]:
    done = subprocess.run(
        ["go", "mod", "download", "-json", *modules],
        cwd=where,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    decoder, text, found = json.JSONDecoder(), done.stdout.strip(), {}
    while text:
        module, end = decoder.raw_decode(text)
        found[module["Path"]] = Path(module["Dir"])
        text = text[end:].lstrip()
    return found
