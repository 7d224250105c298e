"""What there is to convert: a variant with weights, or a saved Keras model; named, fetched and checked before anything heavy is loaded."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path
from typing import Any

from edge.recipes import Recipe
from tfvit.errors import InputError, UsageError, WeightsError
from tfvit.variants import PUBLISHED_WEIGHTS, WEIGHTS_ENDINGS, Variant

NETWORK_TIMEOUT_S = 10.0


@dataclasses.dataclass(frozen=True)
class WeightsChoice:
    """What `--weights` asked for, resolved as far as it can be without building a model.

    Attributes:
        random_seed: for random weights, else None.
        path, sha256: of a weights file, else None.
        published: "imagenet", "imagenet21k" or "cifar10" where the weights are published ones.
        license, origin: of published weights.
        warning: what the user must be told, if anything.
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


@dataclasses.dataclass(frozen=True)
class Source:
    """A model to convert: a variant with weights, or a saved Keras model.

    Attributes:
        name: the artifacts' names begin with it.
        variant: the table's row, or None for a model of its own.
        weights: of the variant, or the saved model itself.
        takes_pixels: for a saved model: whether it normalises pixels by itself; None to find out.
    """

    name: str
    variant: Variant | None
    weights: WeightsChoice
    takes_pixels: bool | None = None

    def artifact_name(self, recipe: Recipe) -> str:
        return f"{self.name}-{recipe.name}{'.random' if self.weights.is_random else ''}"


def resolve_weights(text: str, variant: Variant, timeout_s: float = NETWORK_TIMEOUT_S) -> WeightsChoice:
    """`--weights` for a variant, without building anything; published weights are fetched here.

    Args:
        timeout_s: how long to wait for the network's first answer.

    Raises:
        UsageError, WeightsError: a seed that is no number; a file that is not there; weights that cannot be had.
    """
    if text == "auto":
        return _published(variant, variant.weights, timeout_s) if variant.weights == "cifar10" else _imagenet_or_random(variant, timeout_s)
    kind, _, seed = text.partition(":")
    if kind == "random":
        if seed and not seed.isdecimal():
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
    if not path.name.endswith(WEIGHTS_ENDINGS):
        raise WeightsError(
            "unknown weights",
            expected=f"auto, {', '.join(PUBLISHED_WEIGHTS)}, random[:SEED], or a path ending in {', '.join(WEIGHTS_ENDINGS)}",
            received=repr(text),
            action="check the spelling",
        )
    return WeightsChoice(path=path, sha256=_file_sha256(path, "weights"))


def _published(variant: Variant, weights: str, timeout_s: float) -> WeightsChoice:
    from tfvit.published import published_checkpoint

    found = published_checkpoint(variant.id, weights, timeout_s)
    return WeightsChoice(path=found.path, sha256=found.sha256, published=weights, license=found.license, origin=found.origin)


def _imagenet_or_random(variant: Variant, timeout_s: float) -> WeightsChoice:
    from tfvit.hub import REPOSITORIES

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


def resolve_model(path: Path, takes_pixels: bool | None) -> Source:
    """`--model` without loading it.

    Raises:
        InputError: there is no such file.
    """
    if path.suffix != ".keras":
        raise InputError(
            "not a Keras model file",
            expected="a file saved by model.save('NAME.keras')",
            received=str(path),
            action="save the whole model as .keras",
        )
    return Source(path.stem, None, WeightsChoice(path=path, sha256=_file_sha256(path, "model")), takes_pixels)


def build(source: Source) -> tuple[Any, Any]:
    """The Keras model of a source, and where its weights came from (`tfvit.weights.WeightsOrigin`)."""
    from tfvit import weights as tfvit_weights
    from tfvit.model import build_variant

    choice = source.weights
    if source.variant is None:
        return tfvit_weights.load_keras_model(choice.path), tfvit_weights.WeightsOrigin(choice.path.name, choice.sha256)
    classes = tfvit_weights.checkpoint_classes(choice.path) if choice.path else None
    model = build_variant(source.variant, weights=None, classifier_activation=None, classes=classes)
    if choice.is_random:
        return model, tfvit_weights.randomize(model, choice.random_seed)
    origin = tfvit_weights.load_weights(model, choice.path, source.variant)
    if choice.published:
        origin = tfvit_weights.WeightsOrigin(choice.published, choice.sha256, choice.license, choice.origin)
    return model, origin


def _file_sha256(path: Path, kind: str) -> str:
    try:
        with open(path, "rb") as file:
            digest = hashlib.sha256()
            while block := file.read(1 << 20):
                digest.update(block)
            return digest.hexdigest()
    except OSError as error:
        kind_error = WeightsError if kind == "weights" else InputError
        raise kind_error(
            f"{kind} file not readable", expected="an existing file", received=f"{path}: {error.strerror}", action="check the path"
        ) from error
