#!/usr/bin/env bash
# Runs the tests of targets whose converters are not in the extra dev, for their size or because they
# hold back what others need: converters.sh [EXTRA ...]
# Each extra gets an environment of its own (1 to 4 GB, as PyTorch's wheels may bring CUDA) in CONVERTERS,
# by default a temporary folder that is removed.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
place=${CONVERTERS:-$(mktemp -d)}
[ -n "${CONVERTERS:-}" ] || trap 'rm -rf "$place"' EXIT
[ $# -gt 0 ] || set -- executorch litert
mkdir -p "$place"
for extra in "$@"; do
    echo "Extra $extra"
    env=$place/$extra
    python3 -m venv "$env"
    "$env/bin/pip" install --quiet uv
    "$env/bin/uv" pip install --quiet --native-tls --python "$env/bin/python" \
        --editable "$root[$extra,serve,tiff,train,video]" filelock hypothesis pytest
    (cd "$root" && "$env/bin/python" -m pytest -q -p no:cacheprovider -k "$extra" \
        tests/export/deploy/test_deploy.py tests/export/deploy/test_deployed.py \
        "tests/export/deploy/test_$extra.py")
done
