#!/usr/bin/env bash
# Installs the lowest versions that pyproject.toml allows, then runs the demo and the tests of
# hostile bundles and weights with them: lowest_versions.sh [PYTHON_VERSION ...]
# Python 3.10 has no ONNX Runtime that INT8 can be proved on: there the demo must be refused, FP32
# is exported, and both that bundle and the demo's of another Python are run.
# The environments (3 GB each, as PyTorch's wheels bring CUDA) go to LOWEST, by default a temporary
# folder that is removed. A version of Python that this machine lacks is skipped, and said so.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
place=${LOWEST:-$(mktemp -d)}
[ -n "${LOWEST:-}" ] || trap 'rm -rf "$place"' EXIT
[ $# -gt 0 ] || set -- 3.11 3.10
mkdir -p "$place"
export UV_CACHE_DIR=$place/cache UV_PYTHON_DOWNLOADS=never
python3 -m venv "$place/uv"
"$place/uv/bin/pip" install --quiet uv
uv=$place/uv/bin/uv

without_int8_proof() {
    cd "$place"
    if "$env/bin/edgeunet" demo -o refused 2> refused.txt; then
        echo "The demo was not refused." >&2
        return 1
    fi
    cat refused.txt
    grep -q "INT8 bundles are proved on ONNX Runtime" refused.txt
    "$env/bin/edgeunet" export --model mobile_unet --weights cells -o fp32 --force
    for bundle in fp32 demo/mobile_unet-int8; do
        if [ -d "$bundle" ] && [ -f demo/cells.mp4 ]; then
            "$env/bin/edgeunet" run "$bundle" demo/cells.mp4 -o "run-$(basename "$bundle").mp4"
        else
            echo "$bundle was not run: no demo of another Python is in $place." >&2
        fi
    done
    cd "$root"
}

for version in "$@"; do
    if ! "$uv" python find "$version" > /dev/null 2>&1; then
        echo "Python $version is not installed: its lowest versions were not tried." >&2
        continue
    fi
    echo "Python $version, lowest versions"
    env=$place/$version
    "$uv" venv --quiet --clear --python "$version" "$env"
    "$uv" pip install --quiet --native-tls --python "$env/bin/python" \
        --resolution lowest-direct --editable "$root[serve,tiff,train,video]"
    "$uv" pip install --quiet --native-tls --python "$env/bin/python" pytest hypothesis
    "$env/bin/python" -c "import av, cv2, numpy, onnxruntime, torch
for module in (av, cv2, numpy, onnxruntime, torch): print(module.__name__, module.__version__)"
    if [ "$version" = 3.10 ]; then
        without_int8_proof
    else
        (cd "$place" && "$env/bin/edgeunet" demo --force)
    fi
    (cd "$root" && "$env/bin/python" -m pytest -q -p no:cacheprovider tests/bundle \
        tests/models/test_weight_files.py tests/models/test_wrappers.py \
        tests/runtime/backends/test_ort.py)
done
