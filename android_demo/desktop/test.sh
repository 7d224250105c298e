#!/usr/bin/env bash
# Builds and runs the JVM tests of android_demo:   android_demo/desktop/test.sh BUILD_DIR
#
# Converts nano32, a model fine-tuned as the guide does it, models that give values and features, and one with several outputs; bundles each into a copy of the app,
# writes what Python expects, and compiles core/ alone; then the whole app against stubs of the Android framework; then the app's inference class and the tests against a stand-in for LiteRT's Kotlin API over the Python
# package's libLiteRt.so. The tests write BUILD_DIR/device_report.json, labelled host_jvm; edge.report has to show it so.
# PYTHON is this project's interpreter; PHOTOS a folder of JPEG photos that are compared as well; with VK_ICD_FILENAMES, a Vulkan driver, the
# inference class is also run on LiteRT's GPU delegate. Exit code 3: tools are not to be had.
set -euo pipefail

if [ $# -ne 1 ]; then
    echo "usage: android_demo/desktop/test.sh BUILD_DIR" >&2
    exit 2
fi
PYTHON="${PYTHON:-python3}"
mkdir -p "$1"
build="$(realpath "$1")"
here="$(realpath "$(dirname "$0")")"
project="$(dirname "$here")"
cd "$(dirname "$project")"

PYTHON="$PYTHON" "$here/toolchain.sh" "$build/toolchain"
java="$build/toolchain/sysroot/usr/share/java"
stdlib="$(ls "$build"/toolchain/kotlin/kotlin-stdlib-*.jar)"

"$PYTHON" -m edge.convert --variant nano32 --quant float32,float16,int8,int8_full,w8a16 --out "$build/artifacts" --quiet
rm -rf "$build/fine_tuned"
"$PYTHON" "$here/fine_tuned.py" --out "$build/fine_tuned"
"$PYTHON" -m edge.convert --model "$build/fine_tuned/sides.keras" --quant float32,int8 --labels "$build/fine_tuned/labels.txt" \
    --calibration "$build/fine_tuned/train" --drift-samples 16 --resize squash --interpolation bilinear --out "$build/fine_tuned" --quiet
for recipe in float32 int8; do
    "$PYTHON" -m edge.validate "$build/fine_tuned/sides-$recipe.tflite" --model "$build/fine_tuned/sides.keras" \
        --images "$build/fine_tuned/test" --save "$build/fine_tuned/sides-$recipe.validation.json" --quiet > /dev/null
done
rm -rf "$build/others"
"$PYTHON" "$here/other_models.py" --out "$build/others"
other() {
    "$PYTHON" -m edge.convert --model "$build/others/$1.keras" --quant "$2" --out "$build/others" --quiet "${@:3}"
}
other embedding float32,int8_full --resize 32
other map float32 --image-size 24x56 --model-input normalized --resize 60
other values int8 --resize pad:114 --interpolation bilinear
other several int8,int8_full --model-input normalized --resize 36
rm -rf "$build/project" "$build/golden" "$build/generated" "$build/classes"
mkdir -p "$build/project/app/src/main"
cp "$project/app/build.gradle.kts" "$build/project/app"
"$PYTHON" -m edge.bundle "$build"/artifacts/*.tflite --app "$build/project" --quiet > /dev/null
mkdir -p "$build/fine_tuned/project/app/src/main"
cp "$project/app/build.gradle.kts" "$build/fine_tuned/project/app"
"$PYTHON" -m edge.bundle "$build"/fine_tuned/*.tflite --app "$build/fine_tuned/project" --quiet > /dev/null
mkdir -p "$build/others/project/app/src/main"
cp "$project/app/build.gradle.kts" "$build/others/project/app"
others="$build/others/project/app/src/main/assets/edge"
"$PYTHON" -m edge.bundle "$build"/others/*.tflite --app "$build/others/project" --quiet > /dev/null
package="$build/project/app/src/main/assets/edge"
"$PYTHON" "$here/golden.py" --package "$package" --photos "${PHOTOS:-}" --fine-tuned "$build/fine_tuned" --others "$others" --out "$build/golden"
"$PYTHON" "$here/generated_sources.py" --app "$project/app" --out "$build/generated"

compile() {
    echo "compiling $1" >&2
    "$here/kotlinc.sh" "$build/toolchain" -Werror -d "$build/classes/$1" -cp "$2" "${@:3}"
}
compile core "$stdlib" -jvm-target 11 "$project/core/src/main/kotlin"
stubs="$java/com.android.android-23.jar"
if [ -e "$stubs" ]; then
    compile app "$build/classes/core:$stdlib:$stubs" -jvm-target 11 -no-jdk "$project/app/src/main/java" "$here/src/stubs" "$build/generated"
fi
libraries="$build/classes/core:$stdlib:$java/junit4.jar:$java/hamcrest-2.2.jar:$java/jna-5.13.0.jar"
compile desktop "$libraries" -jvm-target 17 "$here/src/standin" "$here/src/test" "$project/app/src/main/java/tfvit/edge/app/LiteRtEngine.kt"

litert="$("$PYTHON" -c 'import ai_edge_litert; print(ai_edge_litert.__path__[0])')"
version="$("$PYTHON" -c 'from edge.runtime.cpu import runtime_version; print(runtime_version())')"
# tests CLASS...; LiteRT's own log goes to a file
tests() {
    java -cp "$build/classes/desktop:$libraries:$build/toolchain/jna" -Dlitert.library="$litert/libLiteRt.so" -Dlitert.version="$version" \
        -Dandroid.project="$project" -Dandroid.package="$package" -Dandroid.golden="$build/golden" \
        -Dandroid.fine_tuned="$build/fine_tuned/project/app/src/main/assets/edge" \
        -Dandroid.others="$others" \
        -Dandroid.report="$build/device_report.json" org.junit.runner.JUnitCore "$@" 2> "$build/litert.log"
}
# without LD_LIBRARY_PATH LiteRT finds no GPU accelerator: the tests of what happens then
# shellcheck disable=SC2046
LD_LIBRARY_PATH="" tests $(cd "$here/src/test" && find . -name '*Test.kt' | sed 's|^\./||; s|\.kt$||' | tr / . | sort)
# beside what this side measures
"$PYTHON" -m edge.benchmark "$build"/artifacts/nano32-{int8,float16}.tflite --preset quick --save "$build/artifacts/benchmark.json" --quiet > /dev/null
"$PYTHON" -m edge.report "$build/artifacts" --device "$build/device_report.json" -o "$build/report.html" --quiet > /dev/null
"$PYTHON" "$here/check_report.py" --device "$build/device_report.json" --benchmark "$build/artifacts/benchmark.json" --report "$build/report.json"
if [ -n "${VK_ICD_FILENAMES:-}" ]; then
    LD_LIBRARY_PATH="$litert" tests tfvit.edge.OnGpu
else
    echo "not run: the GPU delegate (make vulkan sets up a software Vulkan for it)" >&2
fi
[ -e "$stubs" ] || echo "not compiled, for want of the Android framework's stubs: the app, but for its inference class" >&2
