"""Published checkpoints: those on the hub, and the small ones that ship with the package (`tfvit/cifar10`). Imports no Keras."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from tfvit.errors import WeightsError
from tfvit.hashing import file_sha256
from tfvit.hub import TIMEOUT_S, fetch_checkpoint
from tfvit.repositories import LICENSE, not_published
from tfvit.variants import find_variant

SHIPPED_FOLDER = Path(__file__).with_name("cifar10")
SHIPPED_LICENSE = "Apache-2.0"
# of the files in SHIPPED_FOLDER; the model card there says how they were trained
SHIPPED_SHA256 = {
    "nano32": "39d452efdf471d7d8a1da2160980ac5d578211cef0cbb18444626cef701e2857",
    "v2_nano32": "50ecf888ca171db2a0a694d2868d30f9040bec516c1c9dd966726aebbcd87393",
    "vit_nano32": "e385bb865a64a2c0cb6ca80d51c5eb8ce126dcf1d91c64d2856de288f854d4dc",
}


@dataclasses.dataclass(frozen=True)
class PublishedCheckpoint:
    """A checkpoint file on this machine.

    Attributes:
        path: read it, do not change or move it.
        sha256: of the file's bytes, computed now and compared with the published one.
        license: of the weights.
        origin: repository and commit, or the file's name in the package.
    """

    path: Path
    sha256: str
    license: str
    origin: str


def published_checkpoint(variant_id: str, weights: str, timeout_s: float = TIMEOUT_S) -> PublishedCheckpoint:
    """A variant's published weights: from the package, the cache or the network.

    Args:
        variant_id: an id of `tfvit.variants.VARIANTS`.
        weights: "imagenet", "imagenet21k" or "cifar10".
        timeout_s: how long to wait for the network's first answer.

    Raises:
        UsageError: no such variant.
        WeightsError: there are no such weights for it, they cannot be had, or they are damaged.
    """
    variant = find_variant(variant_id)
    if weights == variant.weights == "cifar10":
        return _shipped(variant.id)
    if weights == "cifar10":
        raise not_published(variant, weights)
    fetched = fetch_checkpoint(variant.id, weights, timeout_s)
    return PublishedCheckpoint(fetched.path, fetched.sha256, fetched.license or LICENSE, fetched.origin)


def _shipped(variant_id: str) -> PublishedCheckpoint:
    path = SHIPPED_FOLDER / f"{variant_id}.safetensors"
    try:
        found = file_sha256(path)
    except OSError as error:
        found = f"no readable file ({error.strerror})"
    if found != SHIPPED_SHA256[variant_id]:
        raise WeightsError(
            f"the weights of {variant_id} that ship with the package are damaged",
            expected=f"SHA-256 {SHIPPED_SHA256[variant_id]}",
            received=f"{path}: {found}",
            action="install the package again",
        )
    return PublishedCheckpoint(path, found, SHIPPED_LICENSE, f"tfvit/cifar10/{path.name}")
