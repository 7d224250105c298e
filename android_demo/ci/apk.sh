#!/usr/bin/env bash
# Builds, signs and checks an APK of the app, without Gradle:   android_demo/ci/apk.sh BUILD_DIR
#
# It is made of the app's own sources, manifest and resources and a bundle of nano32, and shows that these make a package that Android's tools
# take. It has NO RUNTIME: LiteRT's Android library is on Google's Maven repository alone, so its classes are desktop/src/stubs, and every
# model is refused on a phone. Label, version and file name say so. Signed with a key that is made in BUILD_DIR and good for nothing else.
# PYTHON is this project's interpreter. Exit code 3: tools are not to be had; 1: the APK is not what it should be, or a step failed.
set -Eeuo pipefail

if [ $# -ne 1 ]; then
    echo "usage: android_demo/ci/apk.sh BUILD_DIR" >&2
    exit 2
fi
PYTHON="${PYTHON:-python3}"
mkdir -p "$1"
build="$(realpath "$1")"
here="$(realpath "$(dirname "$0")")"
project="$(dirname "$here")"
desktop="$project/desktop"
cd "$(dirname "$project")"

for tool in java javac keytool; do
    if ! command -v "$tool" > /dev/null; then
        echo "skipped: the APK needs $tool (Debian: openjdk-17-jdk-headless)" >&2
        exit 3
    fi
done
"$here/debian_tools.sh" "$build/toolchain" || exit $?
PYTHON="$PYTHON" "$desktop/toolchain.sh" "$build/toolchain" || exit $?
root="$build/toolchain/sysroot"
jars="$root/usr/share/java"
framework="$jars/com.android.android-23.jar"
if ! [ -e "$framework" ]; then
    echo "skipped: the APK needs the Android framework's stubs (libandroid-23-java of Debian 11)" >&2
    exit 3
fi
stdlib="$(ls "$build"/toolchain/kotlin/kotlin-stdlib-*.jar)"
annotations="$(ls "$build"/toolchain/kotlin/annotations-*.jar)"

out="$build/apk"
log="$out/log"
rm -rf "$out"
mkdir -p "$out/project/app/src/main"
apk="$out/tfvit-edge-no-runtime.apk"

doing=start
step() {
    doing="$1"
    echo "$1" >&2
    "${@:2}" > "$log" 2>&1
}
trap 'status=$?; tail -n 20 "$log" >&2; echo "error: no APK: ${doing} failed with exit code $status" >&2; rm -f "$apk"; exit 1' ERR
native() {
    LD_LIBRARY_PATH="$root/usr/lib/x86_64-linux-gnu/android:$root/usr/lib/x86_64-linux-gnu:$root/usr/lib:$root/usr/lib/p7zip" "$root/usr/bin/$1" "${@:2}"
}
# gradle NAME: what app/build.gradle.kts sets it to; catalog NAME: what the version catalog does
gradle() {
    sed -n "s/^ *$1 = \"\{0,1\}\([^\"]*\)\"\{0,1\}$/\1/p" "$project/app/build.gradle.kts"
}
catalog() {
    sed -n "s/^$1 = \"\(.*\)\"/\1/p" "$project/gradle/libs.versions.toml"
}

step "converting nano32" "$PYTHON" -m edge.convert --variant nano32 --quant float16,int8 --out "$build/artifacts" --quiet
cp "$project/app/build.gradle.kts" "$out/project/app"
step "bundling" "$PYTHON" -m edge.bundle "$build"/artifacts/nano32-{float16,int8}.tflite --app "$out/project" --quiet

# the Gradle plugin puts the package's name into the manifest
sed "s/<manifest /<manifest package=\"$(gradle namespace)\" /" "$project/app/src/main/AndroidManifest.xml" > "$out/AndroidManifest.xml"
suffix=-no-runtime
step "generating BuildConfig" "$PYTHON" "$desktop/generated_sources.py" --app "$project/app" --version-suffix="$suffix" --out "$out/generated"
step "compiling resources" native aapt2 compile --dir "$project/app/src/main/res" -o "$out/resources.zip"
step "compiling the label" native aapt2 compile --dir "$here/no-runtime" -o "$out/label.zip"
step "linking resources" native aapt2 link -I "$framework" --manifest "$out/AndroidManifest.xml" --rename-manifest-package "$(gradle applicationId)" \
    --min-sdk-version "$(catalog minSdk)" --target-sdk-version "$(catalog targetSdk)" \
    --version-code "$(gradle versionCode)" --version-name "$(gradle versionName)$suffix" \
    -A "$out/project/app/src/main/assets" -0 .tflite --java "$out/generated" -o "$out/unsigned.apk" "$out/resources.zip" -R "$out/label.zip"

step "compiling Kotlin" "$desktop/kotlinc.sh" "$build/toolchain" -Werror -no-jdk -jvm-target 1.8 -Xlambdas=class -Xsam-conversions=class \
    -d "$out/classes" -cp "$stdlib:$framework" "$project/core/src/main/kotlin" "$project/app/src/main/java" "$desktop/src/stubs" "$out/generated"
step "compiling Java" javac -nowarn -source 8 -target 8 -Xlint:-options -bootclasspath "$framework" -d "$out/classes" "$out"/generated/*/*/*/*.java
# dx knows no lambdas below Android 8; ProGuard writes them out as classes, Kotlin's library included, and names what Android 6 lacks
step "converting lambdas" java -Xmx1g -cp "$jars/proguard.jar" proguard.ProGuard -injars "$out/classes" -injars "$stdlib(!META-INF/**,**.class)" \
    -outjars "$out/classes.jar" -libraryjars "$framework" -libraryjars "$annotations" -target 1.7 -dontshrink -dontoptimize -dontobfuscate \
    -dontnote -dontwarn 'kotlin.**' -keepattributes '*' -ignorewarnings
mv "$log" "$out/proguard.log"
step "making classes.dex" java -Xmx1g -cp "$jars/com.android.dx.jar" com.android.dx.command.Main --dex --min-sdk-version="$(catalog minSdk)" \
    --output="$out/classes.dex" "$out/classes.jar"

# what dx is given, Kotlin's library included, in front of the classes that make android has tested
tests="$build/classes/desktop"
if [ -e "$tests/tfvit/edge/OnApk.class" ]; then
    step "testing the converted classes" java -cp "$out/classes.jar:$tests:$jars/junit4.jar:$jars/hamcrest-2.2.jar:$framework" \
        -Dandroid.project="$project" -Dandroid.package="$build/project/app/src/main/assets/edge" -Dandroid.golden="$build/golden" \
        -Dandroid.report="$out/none" org.junit.runner.JUnitCore \
        tfvit.edge.{OnApk,BackendsTest,BenchmarkTest,JsonTest,PackageReaderTest,PreprocessingTest,RunStatusTest,ScoresTest}
else
    echo "not run on the converted classes: the JVM tests (make android compiles them)" >&2
fi

pack() { # aapt stores a file under the path that it is given
    (cd "$out" && native aapt add unsigned.apk classes.dex)
}
step "packing" pack
step "aligning" native zipalign -f 4 "$out/unsigned.apk" "$apk"
apksigner() {
    java -jar "$jars/apksigner.jar" "$@"
}
key="$build/throw-away-key.jks"
if ! [ -e "$key" ]; then
    step "making a key" keytool -genkeypair -keystore "$key" -storepass throw-away -alias ci -keyalg RSA -keysize 2048 -validity 90 \
        -dname "CN=android_demo without a runtime, OU=throw-away CI key"
fi
step "signing" apksigner sign --v4-signing-enabled false --ks "$key" --ks-pass pass:throw-away "$apk"

step "checking the alignment" native zipalign -c 4 "$apk"
step "checking the signature" apksigner verify --verbose --Werr "$apk"
cp "$log" "$out/signature.log"
changed="$out/changed.apk"
step "changing a bit" "$PYTHON" -c 'import sys; data = bytearray(open(sys.argv[1], "rb").read()); data[len(data) // 2] ^= 1
open(sys.argv[2], "wb").write(data)' "$apk" "$changed"
refused() {
    if apksigner verify "$1"; then return 1; fi
}
step "refusing an APK with a bit changed" refused "$changed"
rm "$changed"
step "reading what it says of itself" native aapt2 dump badging "$apk"
mv "$log" "$out/badging.txt"
step "reading its manifest" native aapt2 dump xmltree --file AndroidManifest.xml "$apk"
mv "$log" "$out/manifest.txt"
trap - ERR
"$PYTHON" "$here/check_apk.py" --apk "$apk" --app "$project/app" --bundle "$out/project/app/src/main/assets/edge" --dumps "$out" || {
    rm -f "$apk"
    exit 1
}
