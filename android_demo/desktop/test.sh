#!/usr/bin/env bash
# Builds and runs the JVM tests of android_demo:   android_demo/desktop/test.sh BUILD_DIR
#
# Converts and packs nano32, writes what Python expects, compiles core/ alone, then the app's inference class and the tests against a
# stand-in for LiteRT's Kotlin API over the Python package's libLiteRt.so, and checks the report that the run wrote.
# PYTHON is this project's interpreter; PHOTOS a folder of JPEG photos that are compared as well. Exit code 3: tools are not to be had.
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
java="$build/toolchain/root/usr/share/java"
stdlib="$(ls "$build"/toolchain/kotlin/kotlin-stdlib-*.jar)"

"$PYTHON" -m edge.convert --variant nano32 --quant float32,float16,int8,int8_full --out "$build/artifacts" --quiet
rm -rf "$build/package" "$build/golden" "$build/classes"
"$PYTHON" "$here/package_fixture.py" "$build"/artifacts/*.tflite --out "$build/package"
"$PYTHON" "$here/golden.py" --package "$build/package" --photos "${PHOTOS:-}" --out "$build/golden"

compile() {
    echo "compiling $1" >&2
    "$here/kotlinc.sh" "$build/toolchain" -Werror -d "$build/classes/$1" -cp "$2" "${@:3}"
}
compile core "$stdlib" -jvm-target 11 "$project/core/src/main/kotlin"
libraries="$build/classes/core:$stdlib:$java/junit4.jar:$java/hamcrest-2.2.jar:$java/jna-5.13.0.jar"
compile desktop "$libraries" -jvm-target 17 "$here/src" "$project/app/src/main/java/tfvit/edge/app/LiteRtEngine.kt"

litert="$("$PYTHON" -c 'import ai_edge_litert; print(ai_edge_litert.__path__[0])')"
version="$("$PYTHON" -c 'from edge import runtime; print(runtime.runtime_version())')"
tests="$(cd "$here/src/test" && find . -name '*Test.kt' | sed 's|^\./||; s|\.kt$||' | tr / . | sort)"
# LiteRT's own log goes to a file
# shellcheck disable=SC2086
java -cp "$build/classes/desktop:$libraries:$build/toolchain/jna" -Dlitert.library="$litert/libLiteRt.so" -Dlitert.version="$version" \
    -Dandroid.project="$project" -Dandroid.package="$build/package" -Dandroid.golden="$build/golden" \
    -Dandroid.report="$build/device_report.json" org.junit.runner.JUnitCore $tests 2> "$build/litert.log"
