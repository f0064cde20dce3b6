"""List what a cluster lacks: ``python -m infra.preflight OVERLAY [--after | --images] [--timeout SECONDS]``."""

import argparse
import sys
from pathlib import Path

from infra.preflight import after, before, images
from infra.preflight.cluster import Cluster, render


def main() -> None:
    """Check the cluster of the current kubeconfig; exit 1 if anything is missing."""
    parser = argparse.ArgumentParser(prog="preflight", description="Say what a cluster lacks for an overlay.")
    parser.add_argument("overlay", type=Path)
    parser.add_argument("--after", action="store_true", help="the overlay is applied: wait until everything is ready")
    parser.add_argument(
        "--images", action="store_true", help="the overlay is applied: try to pull the trainers' images"
    )
    parser.add_argument("--timeout", type=float, default=300, help="seconds to wait with --after and --images")
    options = parser.parse_args()
    cluster, overlay = Cluster(), render(options.overlay)
    missing = []
    if options.after:
        missing += after.lacks(cluster, overlay, within_seconds=options.timeout)
    if options.images:
        missing += images.lacks(cluster, overlay, within_seconds=options.timeout)
    if not options.after and not options.images:
        missing += before.lacks(cluster, overlay)
    for line in missing:
        print(f"missing: {line}")
    print(f"{len(missing)} missing" if missing else "nothing is missing")
    sys.exit(1 if missing else 0)


if __name__ == "__main__":
    main()
