#!/usr/bin/env bash
# The Kotlin compiler of toolchain.sh's DIR:   kotlinc.sh DIR ARGUMENT...
set -euo pipefail
kotlin="$1/kotlin"
shift
exec java -Xmx1g -cp "$(printf '%s:' "$kotlin"/*.jar)" org.jetbrains.kotlin.cli.jvm.K2JVMCompiler \
    -no-stdlib -no-reflect "$@"
