#!/usr/bin/env bash
# Draws the app's screens after make android (screens.py says how):   android_demo/desktop/screens.sh BUILD_DIR PNG
#
# The picture that is classified is scikit-image's cat (CC0, by Stefan van der Walt), the font Android's. PYTHON is this project's
# interpreter. Exit code 3: something is not to be had.
set -euo pipefail

if [ $# -ne 2 ]; then
    echo "usage: android_demo/desktop/screens.sh BUILD_DIR PNG" >&2
    exit 2
fi
PYTHON="${PYTHON:-python3}"
build="$(realpath "$1")"
here="$(realpath "$(dirname "$0")")"
project="$(dirname "$here")"

skip() {
    echo "skipped: $1" >&2
    exit 3
}
[ -e "$build/device_report.json" ] || skip "there is no $1/device_report.json: run make android first"
command -v chromium > /dev/null || skip "the screens are drawn by Chromium (Debian: chromium)"
"$here/deb.sh" "$build/toolchain" f/fonts-roboto/fonts-roboto-unhinted_0~20170802-3_all.deb \
    f89cf7d8a589489daecf750031ec50456ab3e648d49ff544f0f08753268fbd91 || skip "no font (fonts-roboto-unhinted) from ${DEBIAN_MIRROR:-Debian}"
cat="$build/toolchain/chelsea.png"
if ! [ -e "$cat" ]; then
    package="$build/toolchain/scikit-image"
    mkdir -p "$package"
    echo "scikit-image==0.26.0 --hash=sha256:74aa5518ccea28121f57a95374581d3b979839adc25bb03f289b1bc9b99c58af" > "$package/requirements.txt"
    "$PYTHON" -m pip download --quiet --no-deps --require-hashes --only-binary :all: --platform manylinux_2_28_x86_64 --python-version 3.11 \
        -r "$package/requirements.txt" -d "$package" 2> "$package/log" || skip "no picture: pip download failed: $(tail -n 1 "$package/log")"
    "$PYTHON" -m zipfile -e "$package"/*.whl "$package"
    mv "$package/skimage/data/chelsea.png" "$cat"
    rm -r "$package"
fi

java="$build/toolchain/sysroot/usr/share/java"
litert="$("$PYTHON" -c 'import ai_edge_litert; print(ai_edge_litert.__path__[0])')"
java -cp "$build/classes/desktop:$build/classes/core:$(ls "$build"/toolchain/kotlin/kotlin-stdlib-*.jar):$java/jna-5.13.0.jar:$build/toolchain/jna" \
    -Dlitert.library="$litert/libLiteRt.so" -Dandroid.project="$project" -Dandroid.package="$build/project/app/src/main/assets/edge" \
    -Dandroid.golden="$build/golden" -Dandroid.report="$build/device_report.json" tfvit.edge.ScreenKt "$cat" "$build/screen.json" 2> "$build/litert.log"
"$PYTHON" "$here/screens.py" --app "$project/app" --answer "$build/screen.json" --picture "$cat" --report "$build/device_report.json" \
    --fonts "$build/toolchain/sysroot/usr/share/fonts/truetype/roboto/unhinted/RobotoTTF" --out "$build/screens.png"
cp "$build/screens.png" "$2"
