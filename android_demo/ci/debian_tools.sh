#!/usr/bin/env bash
# Puts what makes an APK of classes and resources into DIR, beside what desktop/toolchain.sh puts there, without root:
# aapt, aapt2, zipalign, apksigner and ProGuard of Debian 12, and dx, which only Debian 11 had.
#
#   android_demo/ci/debian_tools.sh DIR
#
# apt resolves what they need, with sources, lists and cache of its own: the machine's stay as they are, and nothing is installed.
# Exit code 3: something is not to be had.
set -euo pipefail

if [ $# -ne 1 ]; then
    echo "usage: android_demo/ci/debian_tools.sh DIR" >&2
    exit 2
fi
mkdir -p "$1"
folder="$(realpath "$1")"
here="$(realpath "$(dirname "$0")")"

skip() {
    echo "skipped: $1" >&2
    exit 3
}

[ -e "$folder/apk-tools.done" ] && exit 0
release="$(sed -n 's/^PRETTY_NAME="\(.*\)"/\1/p' /etc/os-release)"
grep -qs '^VERSION_CODENAME=bookworm' /etc/os-release && [ "$(uname -m)" = x86_64 ] ||
    skip "the APK is made with the tools of Debian 12 on amd64; this is $release on $(uname -m)"
for tool in apt-get dpkg-deb curl sha256sum; do
    command -v "$tool" > /dev/null || skip "the APK's tools are fetched with $tool (Debian: apt dpkg curl coreutils)"
done

apt="$folder/apt"
rm -rf "$apt"
mkdir -p "$apt/lists/partial" "$apt/archives/partial"
options=(-qq -o "Dir::Etc::sourcelist=$apt/sources.list" -o Dir::Etc::sourceparts=/dev/null -o Dir::Etc::preferences=/dev/null
    -o Dir::Etc::preferencesparts=/dev/null -o "Dir::State::lists=$apt/lists" -o "Dir::Cache=$apt" -o APT::Sandbox::User=root
    -o Debug::NoLocking=true -o APT::Update::Error-Mode=any -o Acquire::Retries=2)
mirrors="$("$here/../../scripts/debian_mirrors.sh" 2>&1)" || skip "$mirrors"
mirror="${mirrors%%$'\n'*}"
echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror bookworm main" > "$apt/sources.list"
packages="aapt zipalign apksigner libproguard-java"
apt-get "${options[@]}" update > "$apt/log" 2>&1 || skip "no package lists of Debian 12 from $mirror: $(tail -n 1 "$apt/log")"
# shellcheck disable=SC2086
apt-get "${options[@]}" install --yes --download-only --reinstall --no-install-recommends $packages > "$apt/log" 2>&1 ||
    skip "apt-get cannot fetch $packages: $(tail -n 1 "$apt/log")"
"$here/../desktop/deb.sh" "$folder" a/android-platform-dalvik/dalvik-exchange_10.0.0+r36-1_all.deb \
    8fc128db7c27253d963eb9b33de79b197162a4749d2ba69019b2fd0664cbd7fe || skip "no dx (dalvik-exchange of Debian 11) from ${DEBIAN_MIRROR:-Debian}"
for package in "$apt"/archives/*.deb; do
    dpkg-deb -x "$package" "$folder/sysroot"
done
rm -rf "$apt"
touch "$folder/apk-tools.done"
