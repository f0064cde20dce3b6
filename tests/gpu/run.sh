#!/bin/sh
# DEVICE=0|cpu sh tests/gpu/run.sh [--only WORDS]: measure the trainers on this machine, and write one JSON file ($OUT/gpu.json).
#
# Needs no network. What it carries is in .stoker/gpu, made before by `python -m tests.gpu.pack --wheels`: a dataset, and
# wheels of what the trainers need in addition to torch, timm, opencv, pillow, requests, psutil and their own needs.
# In a checkout with the trainers' environments (./taskw setup), those are used instead.
set -eu
cd "$(dirname "$0")/../.."
carried=$PWD/.stoker/gpu
DEVICE=${DEVICE:-0}
OUT=${OUT:-$carried}
[ -f "$carried/digits.npz" ] || { echo "$carried/digits.npz is missing: run ./taskw gpu, or python -m tests.gpu.pack first" >&2; exit 2; }
[ "$DEVICE" = cpu ] || command -v nvidia-smi >/dev/null || { echo "there is no GPU (nvidia-smi is missing); DEVICE=cpu runs all of it in small" >&2; exit 2; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python_of() {
    own=$PWD/trainer-images/trainer-$1/.venv/bin/python
    if [ -x "$own" ]; then echo "$own"; else command -v "${PYTHON:-python3}"; fi
}
TIMM_PYTHON=$(python_of timm)
ULTRALYTICS_PYTHON=$(python_of ultralytics)
packages=
if [ ! -x trainer-images/trainer-timm/.venv/bin/python ] || [ ! -x trainer-images/trainer-ultralytics/.venv/bin/python ]; then
    packages=$work/packages
    for wheel in "$carried"/wheels/*.whl; do
        "$TIMM_PYTHON" -m zipfile -e "$wheel" "$packages"
    done
fi
export TIMM_PYTHON ULTRALYTICS_PYTHON PACKAGES="$packages"
PYTHONPATH="$PWD/tests${packages:+:$packages}" "$TIMM_PYTHON" -m gpu --device "$DEVICE" --digits "$carried/digits.npz" \
    --work "$work" --report "$OUT/gpu.json" "$@"
