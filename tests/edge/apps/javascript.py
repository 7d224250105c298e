"""npm and node: what the registry has, installed into a test's folder. Without a way to the registry the test is skipped, and says so."""

import functools
import os
import shutil
import subprocess
from pathlib import Path

import pytest

TYPESCRIPT = "typescript@5.9.3"
# Of the newest React Native that both the generator's templates and Nitro Modules knew; Expo's of the same year
REACT_NATIVE = (
    "npx",
    "--yes",
    "@react-native-community/cli@20.0.0",
    "init",
    "Bare",
    "--version",
    "0.82.1",
    "--skip-install",
    "--skip-git-init",
)
EXPO = ("npx", "--yes", "create-expo-app@5.0.0", "my-expo", "--no-install", "--template", "expo-template-blank-typescript@54.0.48")


@functools.cache
def _reachable() -> str | None:
    """Why npm cannot be used, or None."""
    if shutil.which("npm") is None or shutil.which("node") is None:
        return "no npm"
    done = subprocess.run(["npm", "view", TYPESCRIPT, "version", "--fetch-retries=1"], capture_output=True, text=True)
    return f"npm does not reach its registry: {done.stderr.strip()[:200]}" if done.returncode else None


def run(*command: str | Path, cwd: Path) -> str:
    """What a command prints; a failure of it fails the test."""
    why = _reachable()
    if why:
        pytest.skip(why)
    environment = {**os.environ, "CI": "1", "EXPO_NO_TELEMETRY": "1", "npm_config_audit": "false", "npm_config_fund": "false"}
    done = subprocess.run([str(part) for part in command], cwd=cwd, env=environment, capture_output=True, text=True)
    print(f"$ {' '.join(map(str, command))}\n{done.stdout[-3000:]}{done.stderr[-3000:]}")
    assert done.returncode == 0, command
    return done.stdout
