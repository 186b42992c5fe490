#!/usr/bin/env bash
# Debian packages that some tests use; without them those tests are skipped, and say so.
set -euo pipefail

packages=(
    # tests/runtime/serve/test_page.py
    chromium
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

missing=()
for package in "${packages[@]}"; do
    status=$(dpkg-query --show --showformat '${db:Status-Status}' "$package" 2>/dev/null) || status=
    [ "$status" = installed ] || missing+=("$package")
done
if [ ${#missing[@]} -eq 0 ]; then
    exit 0
fi
if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
    echo "Tests that need ${missing[*]} are skipped: only root can install them, with apt-get." >&2
    exit 0
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -qq --no-install-recommends --option DPkg::Lock::Timeout=300 "${missing[@]}" >/dev/null
