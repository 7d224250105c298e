"""What `edge.convert` was asked for and cannot mean: flags that do not go together, named before anything heavy is loaded."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edge.drift.meanings import AUTO, LOGITS, OUTPUTS, PROBABILITIES
from edge.quantization.recipes import INT16, RECIPES, Recipe
from tfvit.errors import UsageError, unknown_name
from tfvit.preprocessing import Size

INPUTS = ("float32", "uint8", INT16)


def require_one_model(variant: str | None, model: Any, checkpoint: str | Path | None) -> None:
    """Something to convert, and one kind of it.

    Raises:
        UsageError: nothing, or too much.
    """
    if (variant is None) == (model is None) and (checkpoint is None or model is not None):
        raise UsageError(
            "nothing, or too much, to convert",
            expected="--variant or --model, one of them, or --checkpoint",
            received="none of them" if variant is None else "both",
            action="for example --variant small224, or --checkpoint PATH",
        )


def require_fitting_model(
    *, variant: str | None, count: int, model: Any, checkpoint: str | Path | None, weights: str | Path | None, trust_model: bool,
    model_input: str, channels: str | None, output: str, imports: Sequence[str], image_size: Size | None, window: int | None,
) -> None:  # fmt: skip
    """Flags that go with what is to be converted.

    Args:
        variant, count: as they were asked for, and how many they are.

    Raises:
        UsageError: one that does not.
    """
    if checkpoint is not None and (model is not None or count > 1):
        raise UsageError(
            "a checkpoint is one model",
            expected="--checkpoint PATH, and at most one --variant, which is checked",
            received=f"--checkpoint {checkpoint} with {'--model' if model is not None else f'--variant {variant}'}",
            action=f"leave {'--model' if model is not None else '--variant'} out",
        )
    if (model is not None or checkpoint is not None) and weights:
        raise UsageError(
            "a saved model or checkpoint has its own weights",
            expected="--weights only with --variant alone",
            received=f"--weights {weights} with {f'--model {model}' if checkpoint is None else f'--checkpoint {checkpoint}'}",
            action="leave --weights out",
        )
    if trust_model and model is None:
        raise UsageError(
            "nothing to trust", expected="--trust-model with --model FILE", received="no --model", action="leave --trust-model out"
        )
    if (model_input != "auto" or channels) and model is None and checkpoint is None:
        raise UsageError(
            "a variant's values are known",
            expected="--model-input and --channels with --model FILE; for weights trained otherwise, --mean and --std",
            received=f"{f'--channels {channels}' if channels else f'--model-input {model_input}'} and no --model",
            action="leave it out",
        )
    for word in output.split(","):
        if word not in OUTPUTS:
            raise unknown_name("--output", word, OUTPUTS)
    if output not in (AUTO, PROBABILITIES, LOGITS) and model is None and checkpoint is None:
        raise UsageError(
            "a variant's output is known",
            expected="--output probabilities or logits",
            received=f"--output {output} and no --model",
            action="leave --output out",
        )
    if imports and not isinstance(model, str | Path):
        raise UsageError("nothing to import for", expected="--import with --model FILE", received="no --model", action="leave --import out")
    for flag, value, fits in (
        ("--window", window, model is None and checkpoint is None),
        ("--image-size", image_size, checkpoint is None),
    ):
        if value is not None and not fits:
            raise UsageError(
                f"{flag} does not fit",
                expected=f"{flag} with --variant{' or --model' if flag == '--image-size' else ''}",
                received=f"{flag} {value} and {'--checkpoint' if checkpoint is not None else '--model'}",
                action=f"leave {flag} out",
            )


def require_fitting_recipes(recipes: Sequence[Recipe], *, max_size: float | None, portable: bool, input: str) -> None:
    """Flags that go with the recipes.

    Raises:
        UsageError: one that does not.
    """
    if max_size is not None and (max_size <= 0 or not any(recipe.fits_size for recipe in recipes)):
        fitting = ", ".join(recipe.name for recipe in RECIPES.values() if recipe.fits_size)
        raise UsageError(
            "no file to fit into a size",
            expected=f"--max-size of more than 0 MB with --quant {fitting}",
            received=f"--max-size {max_size:g} with --quant {', '.join(recipe.name for recipe in recipes)}",
            action=f"ask for --quant {fitting}, or leave --max-size out",
        )
    without = [recipe.name for recipe in recipes if portable and not recipe.has_portable_form]
    if without:
        raise UsageError(
            "no portable form of a recipe",
            expected=f"--portable with --quant {', '.join(recipe.name for recipe in RECIPES.values() if recipe.has_portable_form)}",
            received=f"--quant {', '.join(without)}: 4-bit weights and 16-bit activations are LiteRT's own",
            action=f"leave {'it' if len(without) == 1 else 'them'} or --portable out",
        )
    if input not in INPUTS:
        raise unknown_name("choice", input, INPUTS)
    without = [recipe.name for recipe in recipes if input == INT16 and not recipe.takes_int16]
    if without:
        raise UsageError(
            "no 16-bit input of a recipe",
            expected=f"--input int16 with --quant {', '.join(recipe.name for recipe in RECIPES.values() if recipe.takes_int16)}",
            received=f"--input int16 with --quant {', '.join(without)}",
            action="leave --input out; int8_full and int8_wide take int8",
        )
