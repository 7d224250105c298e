#!/usr/bin/env bash
# Prints the Debian mirrors to ask, one a line: DEBIAN_MIRROR where it is set, else those in this machine's apt sources.
#
# Exit code 1: there is none.
set -euo pipefail

if [ -n "${DEBIAN_MIRROR:-}" ]; then
    echo "$DEBIAN_MIRROR"
    exit 0
fi
apt="${APT_SOURCES:-/etc/apt}"
shopt -s nullglob
# "deb [options] http://host/debian suite" and "URIs: http://host/debian"; security archives end otherwise and are not whole ones
mirrors=$(cat /dev/null "$apt"/sources.list "$apt"/sources.list.d/*.{list,sources} 2> /dev/null |
    sed -nE 's,^(deb|URIs:)([[:space:]]+\[[^]]*\])?[[:space:]]+([^[:space:]]*/debian)/?([[:space:]].*)?$,\3,p' | sort -u || true)
if [ -z "$mirrors" ]; then
    echo "no Debian mirror in $apt: set DEBIAN_MIRROR to one" >&2
    exit 1
fi
echo "$mirrors"
