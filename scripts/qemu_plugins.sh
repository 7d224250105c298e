#!/usr/bin/env bash
# Builds an emulator of aarch64 user programs and a plugin that counts their instructions (Debian 12, ten minutes of one core).
#
#   scripts/qemu_plugins.sh DIR        afterwards DIR/qemu-aarch64 and DIR/libhotblocks.so, which counts blocks of instructions
#
# Debian's own binary is built without plugins, so this is qemu 10 from the sources in bookworm-backports. What building it needs is installed
# with apt-get, which needs root; the rest goes to DIR alone. JOBS: how many compilers at a time. Exit code 3: it cannot be had here.
set -euo pipefail

if [ $# -ne 1 ]; then
    echo "usage: scripts/qemu_plugins.sh DIR" >&2
    exit 2
fi
mirrors="$("$(dirname "$0")/debian_mirrors.sh")" || exit 3
mkdir -p "$1"
folder="$(realpath "$1")"
[ -x "$folder/qemu-aarch64" ] && exit 0

if ! command -v apt-get dpkg > /dev/null; then
    echo "error: the emulator is built on Debian; received: no apt-get or dpkg" >&2
    exit 3
fi
as_root=()
[ "$(id -u)" -eq 0 ] || as_root=(sudo -n)
needed=(gcc ninja-build pkg-config libglib2.0-dev flex bison python3-venv)
if ! dpkg -s "${needed[@]}" > /dev/null 2>&1; then
    "${as_root[@]}" apt-get update -qq
    "${as_root[@]}" apt-get install -y -qq --no-install-recommends "${needed[@]}" > /dev/null
fi

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
cd "$work"
# a source list of our own: the machine's stays as it is
mkdir -p lists/partial cache/archives/partial
echo "deb-src [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] ${mirrors%%$'\n'*} bookworm-backports main" > sources.list
apt=(-o "Dir::Etc::sourcelist=$work/sources.list" -o Dir::Etc::sourceparts=/dev/null -o "Dir::State::lists=$work/lists"
    -o "Dir::Cache=$work/cache" -o APT::Sandbox::User=root)
apt-get -qq "${apt[@]}" update
apt-get -qq "${apt[@]}" source --download-only qemu || true # a mirror may lack Debian's patches; the original sources are enough
tar -xf qemu_*.orig.tar.*
cd qemu-*/

# Debian's archive lacks firmware that meson asks for by name even where only a user program is emulated
python3 - << 'PYTHON'
import pathlib, re

folder = pathlib.Path("pc-bios")
for name in [*re.findall(r"'([A-Za-z0-9_-]+\.[A-Za-z0-9_.-]+)'", (folder / "meson.build").read_text()), "palcode-clipper"]:
    (folder / name.replace(".dts", ".dtb")).touch()
PYTHON
python3 -m pip download -q -d python/wheels meson==1.5.0 pycotap==1.3.1 > /dev/null # Debian's archive lacks these too; configure looks there

# the plugin writes the 20 blocks that were executed most; all are wanted
sed -i 's/^static guint64 limit = 20;/static guint64 limit = G_MAXINT;/' contrib/plugins/hotblocks.c

mkdir build
cd build
../configure --target-list=aarch64-linux-user --enable-plugins --enable-download --disable-docs --disable-install-blobs --disable-tools \
    --disable-system --disable-werror > "$folder/build.log" 2>&1 || { tail -n 5 "$folder/build.log" >&2; exit 3; }
ninja -j "${JOBS:-$(nproc)}" qemu-aarch64 contrib/plugins/libhotblocks.so >> "$folder/build.log" 2>&1 ||
    { tail -n 5 "$folder/build.log" >&2; exit 3; }
cp contrib/plugins/libhotblocks.so "$folder"
cp qemu-aarch64 "$folder/qemu-aarch64.new"
mv "$folder/qemu-aarch64.new" "$folder/qemu-aarch64"
