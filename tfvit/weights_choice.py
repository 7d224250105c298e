"""Which weights a variant gets: `--weights` is resolved, fetched and hashed before anything heavy is loaded."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from tfvit.errors import UsageError, UserError, WeightsError, reading
from tfvit.hashing import file_sha256
from tfvit.variants import PUBLISHED_WEIGHTS, WEIGHTS_ENDINGS, Variant

NETWORK_TIMEOUT_S = 10.0
_SEED_DIGITS = 18


@dataclasses.dataclass(frozen=True)
class WeightsChoice:
    """The weights that `--weights` asks for, as far as they are known without a model.

    Attributes:
        random_seed: None unless the weights are random.
        path, sha256: the weights file; None for random weights.
        published: "imagenet", "imagenet21k" or "cifar10"; None for other weights.
        license, origin: of published weights.
        warning: a sentence for the user, or None.
    """

    random_seed: int | None = None
    path: Path | None = None
    sha256: str | None = None
    published: str | None = None
    license: str | None = None
    origin: str | None = None
    warning: str | None = None

    @property
    def is_random(self) -> bool:
        return self.random_seed is not None

    @property
    def file(self) -> tuple[Path, str]:
        """Path and SHA-256.

        Raises:
            ValueError: the weights are random and have no file.
        """
        if self.path is None or self.sha256 is None:
            raise ValueError(f"weights from a file expected. Received: {self}")
        return self.path, self.sha256


def resolve_weights(text: str, variant: Variant, timeout_s: float = NETWORK_TIMEOUT_S) -> WeightsChoice:
    """Resolves `--weights` for a variant. Published weights are downloaded if the cache lacks them.

    Args:
        text: for example "auto", "random:1", or the path of a file, whatever its ending.
        timeout_s: how long to wait for the network's first answer.

    Raises:
        UsageError: the seed is no number.
        WeightsError: the file is missing, or the published weights can neither be read nor downloaded.
    """
    if text == "auto":
        return _published(variant, variant.weights, timeout_s) if variant.weights == "cifar10" else _imagenet_or_random(variant, timeout_s)
    kind, _, seed = text.partition(":")
    if kind == "random":
        if len(seed) > _SEED_DIGITS or (seed and not seed.isdecimal()):
            raise UsageError(
                "unusable seed",
                expected="random or random:SEED with a whole number",
                received=repr(text),
                action="for example --weights random:1",
            )
        return WeightsChoice(random_seed=int(seed or 0))
    if text in PUBLISHED_WEIGHTS:
        return _published(variant, text, timeout_s)
    path = Path(text)
    if not path.name.endswith(WEIGHTS_ENDINGS) and not path.is_file():
        raise WeightsError(
            "unknown weights",
            expected=f"auto, {', '.join(PUBLISHED_WEIGHTS)}, random[:SEED], or a path ending in {', '.join(WEIGHTS_ENDINGS)}",
            received=repr(text),
            action="check the spelling",
        )
    return WeightsChoice(path=path, sha256=sha256_of_given(path))


def build(variant: Variant, choice: WeightsChoice, window: int | None = None) -> tuple[Any, Any]:
    """The Keras model of a variant, giving logits, and the `tfvit.weights.WeightsOrigin` of its weights.

    Args:
        window: another than the variant's, to which the weights' position biases are adapted.
    """
    from tfvit import weights
    from tfvit.model import build_variant

    arguments = weights.checkpoint_arguments(choice.path) if choice.path else {}
    arguments |= {"window_size": window} if window else {}
    model = build_variant(variant, weights=None, classifier_activation=None, **arguments)
    if choice.random_seed is not None:
        return model, weights.randomize(model, choice.random_seed)
    path, sha256 = choice.file
    origin = weights.load_weights(model, path, variant, adapt_window=window is not None)
    if choice.published:
        origin = weights.WeightsOrigin(choice.published, sha256, choice.license, choice.origin)
    return model, origin


def _published(variant: Variant, weights: str, timeout_s: float) -> WeightsChoice:
    from tfvit.published import published_checkpoint

    found = published_checkpoint(variant.id, weights, timeout_s)
    return WeightsChoice(path=found.path, sha256=found.sha256, published=weights, license=found.license, origin=found.origin)


def _imagenet_or_random(variant: Variant, timeout_s: float) -> WeightsChoice:
    from tfvit.repositories import REPOSITORIES

    if variant.id in REPOSITORIES["imagenet"]:
        try:
            return _published(variant, "imagenet", timeout_s)
        except WeightsError as error:
            if getattr(error, "kind", None) not in ("offline", "unreachable"):
                raise
            why = f"no ImageNet weights in the cache and no network ({error.received})"
    else:
        why = f"no published ImageNet weights for {variant.id}"
    return WeightsChoice(
        random_seed=0,
        warning=f"{why}: using RANDOM weights (seed 0). The files are for measuring size and latency only and are marked .random; give "
        "trained weights with --weights FILE",
    )


def sha256_of_given(path: Path, error_type: type[UserError] = WeightsError, kind: str = "weights") -> str:
    """SHA-256 of a file that the user named.

    Raises:
        UserError: the file cannot be read; an `error_type`.
    """
    with reading(path, "an existing file", f"{kind} file", kind=error_type):
        return file_sha256(path)
