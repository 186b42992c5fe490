#!/usr/bin/env bash
# Debian packages that some tests use; without them those tests are skipped, and say so.
set -euo pipefail

packages=(
    # tests/runtime/serve/test_page.py
    chromium
    # tests/support/gstreamer.py
    gir1.2-gst-plugins-base-1.0
    gstreamer1.0-python3-plugin-loader
    gstreamer1.0-tools
    python3-gst-1.0
    # tests/support/rtsp_server.py
    gir1.2-gst-rtsp-server-1.0
    gstreamer1.0-plugins-base
    gstreamer1.0-plugins-good
    python3-gi
    # tests/support/arm.py
    qemu-user
)
# tests/export/deploy/test_web.py. NodeSource's Node.js brings npm too, and Debian's conflicts with it.
command -v npm >/dev/null || packages+=(npm)

# tests/support/cpp.py: headers of ONNX Runtime's C++ API. Debian has them from release 13 on. They are
# text, so an older release gets these files alone, without the libraries that the package needs.
headers=libonnxruntime-dev
for folder in /usr/include /usr/local/include; do
    [ ! -e "$folder/onnxruntime/onnxruntime_cxx_api.h" ] || headers=
done

missing=()
for package in "${packages[@]}"; do
    status=$(dpkg-query --show --showformat '${db:Status-Status}' "$package" 2>/dev/null) || status=
    [ "$status" = installed ] || missing+=("$package")
done
if [ ${#missing[@]} -eq 0 ] && [ -z "$headers" ]; then
    exit 0
fi
if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
    echo "Tests that need ${missing[*]} $headers are skipped: only root can install them, with apt-get." >&2
    exit 0
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
if [ ${#missing[@]} -gt 0 ]; then
    apt-get install -qq --no-install-recommends --option DPkg::Lock::Timeout=300 \
        "${missing[@]}" >/dev/null
fi
if [ -n "$headers" ]; then
    folder=$(mktemp -d)
    trap 'rm -r "$folder"' EXIT
    mkdir -p "$folder"/{parts,lists/partial,cache/archives/partial,unpacked}
    mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Label: Debian' | head -1)
    cat >"$folder/parts/13.sources" <<SOURCES
Types: deb
URIs: $mirror
Suites: trixie
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
SOURCES
    release=(
        -qq
        --option Dir::Etc::sourcelist=/dev/null
        --option "Dir::Etc::sourceparts=$folder/parts"
        --option "Dir::State::lists=$folder/lists"
        --option "Dir::Cache=$folder/cache"
        --option APT::Sandbox::User=root
    )
    apt-get "${release[@]}" update
    (cd "$folder" && apt-get "${release[@]}" download "$headers")
    dpkg-deb --extract "$folder/$headers"_*.deb "$folder/unpacked"
    mkdir -p /usr/local/include/onnxruntime
    cp "$folder"/unpacked/usr/include/onnxruntime/*.h /usr/local/include/onnxruntime/
fi
