#!/usr/bin/env bash
# Sets up two Vulkan drivers that compute on the CPU, so that LiteRT's GPU delegate can be run on a machine without a GPU (Debian 12, amd64).
#
#   scripts/software_vulkan.sh DIR
#   VK_ICD_FILENAMES=DIR/lavapipe.json python -m edge.benchmark FILE --delegate gpu
#
# lavapipe (Mesa 25 from bookworm-backports; bookworm's own 22.3 fails) computes in float32 and real float16, SwiftShader (a file of Debian's
# chromium-common) in float32. The Vulkan loader and what lavapipe links are installed with apt-get, which needs root; the drivers themselves
# go to DIR alone.
set -euo pipefail

if [ $# -ne 1 ]; then
    echo "usage: scripts/software_vulkan.sh DIR" >&2
    exit 2
fi
mkdir -p "$1"
folder="$(realpath "$1")"
[ -s "$folder/lavapipe.json" ] && [ -s "$folder/swiftshader.json" ] && exit 0

architecture="$(dpkg --print-architecture 2>/dev/null || true)"
if [ "$architecture" != amd64 ]; then
    echo "error: software Vulkan is set up on Debian amd64 only; received: ${architecture:-no dpkg}" >&2
    exit 3
fi
as_root=()
[ "$(id -u)" -eq 0 ] || as_root=(sudo -n)

mirror="$(sed -n 's/^URIs: *\([^ ]*\).*/\1/p' /etc/apt/sources.list.d/debian.sources 2>/dev/null | head -n 1)"
[ -n "$mirror" ] || mirror="$(grep -hoE '^deb .*https?://[^ ]+' /etc/apt/sources.list | grep -oE 'https?://[^ ]+' | head -n 1)"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT

if ! dpkg -s libvulkan1 mesa-vulkan-drivers > /dev/null 2>&1; then
    "${as_root[@]}" apt-get update -qq
    "${as_root[@]}" apt-get install -y -qq --no-install-recommends libvulkan1 mesa-vulkan-drivers > /dev/null
fi

cd "$work"
apt-get -qq -o APT::Sandbox::User=root download chromium-common
mkdir -p "$folder/swiftshader"
dpkg --fsys-tarfile chromium-common_*.deb | tar -x -C "$folder/swiftshader" --wildcards --strip-components=4 './usr/lib/chromium/libvk_swiftshader.so'

# a source list of our own: the machine's stays as it is
mkdir -p lists/partial cache/archives/partial
echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror bookworm-backports main" > backports.list
backports=(-o "Dir::Etc::sourcelist=$work/backports.list" -o Dir::Etc::sourceparts=/dev/null -o "Dir::State::lists=$work/lists"
    -o "Dir::Cache=$work/cache" -o APT::Sandbox::User=root)
apt-get -qq "${backports[@]}" update
apt-get -qq "${backports[@]}" download mesa-vulkan-drivers/bookworm-backports
dpkg -x mesa-vulkan-drivers_*bpo12*.deb "$folder/mesa"

lavapipe="$folder/mesa/usr/lib/x86_64-linux-gnu/libvulkan_lvp.so"
if ldd "$lavapipe" | grep 'not found' >&2; then
    echo "error: lavapipe misses the libraries above" >&2
    exit 3
fi
driver() {
    printf '{"file_format_version": "1.0.0", "ICD": {"library_path": "%s", "api_version": "%s"}}\n' "$1" "$2"
}
driver "$folder/swiftshader/libvk_swiftshader.so" 1.0.5 > "$folder/swiftshader.json"
driver "$lavapipe" 1.4.305 > "$folder/lavapipe.json"
echo "$folder/lavapipe.json"
echo "$folder/swiftshader.json"
