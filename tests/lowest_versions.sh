#!/usr/bin/env bash
# Installs the lowest versions that pyproject.toml allows, then runs the demo and the tests of
# hostile bundles and weights with them: lowest_versions.sh [PYTHON_VERSION ...]
# The environments (3 GB each, as PyTorch's wheels bring CUDA) go to LOWEST, by default a temporary
# folder that is removed. A version of Python that this machine lacks is skipped, and said so.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
place=${LOWEST:-$(mktemp -d)}
[ -n "${LOWEST:-}" ] || trap 'rm -rf "$place"' EXIT
[ $# -gt 0 ] || set -- 3.10 3.11
mkdir -p "$place"
export UV_CACHE_DIR=$place/cache UV_PYTHON_DOWNLOADS=never
python3 -m venv "$place/uv"
"$place/uv/bin/pip" install --quiet uv
uv=$place/uv/bin/uv

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
    (cd "$place" && "$env/bin/edgeunet" demo --force)
    (cd "$root" && "$env/bin/python" -m pytest -q -p no:cacheprovider tests/bundle \
        tests/models/test_weight_files.py tests/models/test_wrappers.py \
        tests/runtime/backends/test_ort.py)
done
