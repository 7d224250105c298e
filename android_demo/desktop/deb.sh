#!/usr/bin/env bash
# A Debian package, unpacked into DIR/sysroot, once:   deb.sh DIR POOL_PATH SHA256
#
# Asked are the mirrors of scripts/debian_mirrors.sh. Exit code 1: it is not to be had, or not with this hash.
set -euo pipefail
folder="$1"
file="$folder/debs/${2##*/}"
[ -e "$file.done" ] && exit 0
mkdir -p "$folder/debs"
mirrors=$("$(dirname "$0")/../../scripts/debian_mirrors.sh")
for mirror in $mirrors; do
    if curl -fsSL --retry 2 --connect-timeout 10 -o "$file" "$mirror/pool/main/$2" 2> /dev/null && echo "$3  $file" | sha256sum --check --status; then
        dpkg-deb -x "$file" "$folder/sysroot"
        rm "$file"
        touch "$file.done"
        exit 0
    fi
done
rm -f "$file"
exit 1
