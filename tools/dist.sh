#!/usr/bin/env bash
# Builds wheel and sdist into dist/, then installs the wheel in an environment of its own for each Python
# that is at hand, and runs doctor and the demo with it, away from the sources.
# The version is that of edgeunet/__init__.py, and a release's tag must say the same.
# On Python 3.10, which has no ONNX Runtime that INT8 can be proved on, doctor alone.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
rm -rf dist
version=$(sed -n 's/^__version__ = "\(.*\)"$/\1/p' edgeunet/__init__.py)
tag=$(git describe --tags --exact-match 2> /dev/null || true)
if [ -z "$tag" ]; then
    echo "No tag here: $version is not a release yet. A release is tagged v$version." >&2
elif [ "$tag" != "v$version" ]; then
    echo "The tag is $tag, but edgeunet/__init__.py says $version; expected v$version." >&2
    exit 1
fi
"${1:-python3}" -m build --outdir dist . > "$place/build.log" 2>&1 || { cat "$place/build.log"; exit 1; }
wheel=$(echo "$root"/dist/*.whl)

at_hand() {
    command -v "python$1" || ls "$HOME"/.pyenv/versions/"$1".*/bin/python 2> /dev/null | head -1
}

for version in 3.10 3.11 3.12; do
    python=$(at_hand "$version") || true
    if ! "${python:-false}" -c '' 2> /dev/null; then
        echo "Python $version is not here: not tried." >&2
        continue
    fi
    "$python" -m venv "$place/$version"
    bin=$place/$version/bin
    cd "$place/$version"
    if [ "$version" = 3.10 ]; then
        "$bin/pip" install --quiet "$wheel[cpu,video]"
        "$bin/edgeunet" doctor
    else
        "$bin/pip" install --quiet --constraint "$root/constraints.txt" torch
        "$bin/pip" install --quiet --constraint "$root/constraints.txt" "$wheel[export,video]"
        "$bin/edgeunet" doctor
        "$bin/edgeunet" demo
    fi
    cd "$root"
    rm -rf "${place:?}/$version"
    echo "Python $version: the wheel works." >&2
done
