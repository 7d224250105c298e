#!/bin/bash
# An aarch64 Python with LiteRT under qemu-user, in a folder of its own: nothing is installed into the system, no chroot, no binfmt.
#
#     setup_arm.sh DIR PIP_PYTHON LITERT_VERSION        needs Debian (apt-get, dpkg); afterwards: QEMU_CPU=cortex-a53 DIR/python script.py
#
# The caller gives its own LiteRT's version, so that only the processor differs. Python 3.11 is bookworm's, NumPy one that has wheels for it.
# qemu comes from bookworm-backports (10.0): bookworm's own 7.2 crashes in the wheel.
set -euo pipefail

dir=$(realpath -m "$1")
pip_python=$2
litert=ai-edge-litert==$3
numpy=numpy==2.4.6

if [ -x "$dir/python" ]; then
  exit 0
fi
if ! command -v apt-get dpkg >/dev/null; then
  echo "no apt-get or dpkg here: the aarch64 system libraries and qemu come as Debian packages" >&2
  exit 1
fi
mirrors=$("$(dirname "$0")/../../scripts/debian_mirrors.sh")
mirror=${mirrors%%$'\n'*}
keys=/usr/share/keyrings/debian-archive-keyring.gpg
rm -rf "$dir"
mkdir -p "$dir"/{sysroot,qemu,site,wheels}

# apt NAME ARCHITECTURE SUITE PACKAGE...: downloads packages, with a package list, cache and status of its own
apt() {
  local name=$1 architecture=$2 suite=$3 own=$dir/apt-$1
  shift 3
  mkdir -p "$own"/lists/partial "$own"/cache/archives/partial
  : >"$own/status"
  echo "deb [arch=$architecture signed-by=$keys] $mirror $suite main" >"$own/sources.list"
  cat >"$own/apt.conf" <<CONF
APT::Architecture "$architecture";
APT::Architectures { "$architecture"; };
APT::Sandbox::User "root";
APT::Install-Recommends "false";
Dir::Etc::sourcelist "$own/sources.list";
Dir::Etc::sourceparts "/dev/null";
Dir::State::lists "$own/lists";
Dir::State::status "$own/status";
Dir::Cache "$own/cache";
CONF
  APT_CONFIG=$own/apt.conf apt-get update -qq
  (cd "$own" && APT_CONFIG=$own/apt.conf apt-get "$@")
}

apt arm arm64 bookworm install -y -qq --download-only python3.11-minimal libpython3.11-stdlib libstdc++6 libexpat1 libffi8
for package in "$dir"/apt-arm/cache/archives/*.deb; do
  dpkg -x "$package" "$dir/sysroot"
done
apt qemu amd64 bookworm-backports download -qq qemu-user
dpkg -x "$dir"/apt-qemu/qemu-user_*.deb "$dir/qemu"

"$pip_python" -m pip download --quiet --dest "$dir/wheels" --only-binary=:all: --implementation cp --python-version 311 \
  --abi cp311 --abi abi3 --abi none \
  --platform manylinux_2_27_aarch64 --platform manylinux_2_28_aarch64 --platform manylinux2014_aarch64 "$litert" "$numpy"
for wheel in "$dir"/wheels/*.whl; do
  "$pip_python" -m zipfile -e "$wheel" "$dir/site"
done
rm -rf "$dir"/apt-arm "$dir"/apt-qemu "$dir"/wheels

cat >"$dir/python.new" <<RUN
#!/bin/sh
exec "\${QEMU:-$dir/qemu/usr/bin/qemu-aarch64}" -L $dir/sysroot \\
  -E LD_LIBRARY_PATH=$dir/sysroot/lib/aarch64-linux-gnu:$dir/sysroot/usr/lib/aarch64-linux-gnu \\
  -E PYTHONHOME=$dir/sysroot/usr -E PYTHONPATH=$dir/site -E OPENBLAS_NUM_THREADS=1 $dir/sysroot/usr/bin/python3.11 "\$@"
RUN
chmod +x "$dir/python.new"
"$dir/python.new" -c "import numpy, ai_edge_litert.interpreter"
mv "$dir/python.new" "$dir/python"
