"""Float flatbuffer + recipe + ranges -> flatbuffer. Every recipe starts from the same float file."""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from threadpoolctl import threadpool_limits

from edge.quantization import clipping, gptq
from edge.quantization.compact_constants import store_compactly
from edge.quantization.dense_layers import DenseLayer, dense_layers, num_inputs, set_constant, set_four_bits, takes_four_bits, weight_matrix
from edge.quantization.flat_means import flatten_means
from edge.quantization.int8_movement import move_as_bytes
from edge.quantization.portable import give_plain_names, make_portable, write_out_gelu
from edge.quantization.position_tables import store_tables
from edge.quantization.ranges import Calibration, Rounded
from edge.quantization.recipes import DYNAMIC, DYNAMIC4, FLOAT, STATIC, WEIGHT_BITS, Recipe
from edge.tflite import flatbuffer, versions
from tfvit.graph_constants import MASK

# What a mask is in files that compute on integers: exp(-16) of a share in a softmax is nothing in 8 bits
INTEGER_MASK = -16.0
# Of the residual stream: the sums that make it, what moves it and what normalises it, but for the root: a number a token, which 8 bits hold
_STREAM = ("ADD", "SUB", "MUL", "MEAN", "RESHAPE", "TRANSPOSE", "STRIDED_SLICE", "CONCATENATION")


def quantize(
    float_file: bytes,
    recipe: Recipe,
    calibration: Calibration | None = None,
    modes: Mapping[str, str] | None = None,
    threads: int = 1,
    each: Callable[[], None] = lambda: None,
) -> bytes:
    """Makes a recipe's file.

    Args:
        float_file: the float flatbuffer.
        recipe: what to do.
        calibration: of the tensors in `watched_tensors`, for the recipes that need it.
        modes: of the dense layers, by their outputs' names, instead of those of `layer_modes`.
        threads: for rounding layers side by side.
        each: called for each of the recipe's layers that is rounded, in their order.

    Raises:
        ValueError: a recipe without the calibration it needs.
    """
    calibration = calibration or Calibration()
    quantized = float_file
    modes = modes or layer_modes(flatbuffer.read_model(float_file), recipe, calibration)
    if recipe.fitted_to_inputs:
        bits = {name: WEIGHT_BITS.get(mode, 8) for name, mode in modes.items() if mode != FLOAT or recipe.integer_bits}
        quantized = _rounded_for_inputs(quantized, calibration, bits, threads, each)
    if recipe.integer_bits or {STATIC, DYNAMIC} & set(modes.values()):
        ranges = calibration.ranges
        if recipe.fitted_to_inputs and not recipe.integer_bits:
            ranges = _clipped_inputs(float_file, calibration, modes, threads)
        quantized = _quantize_operations(quantized, recipe, ranges, modes)
    model = flatbuffer.read_model(quantized)
    for layer in dense_layers(model):
        if modes.get(layer.name) == DYNAMIC4:
            rounded = calibration.rounded[layer.name, 4]
            assert rounded.scale is not None
            set_four_bits(model, layer, rounded.weights, rounded.scale)
    flatbuffer.drop_unused_buffers(model)
    if not recipe.portable:
        move_as_bytes(model)
    if recipe.integer_bits:
        flatten_means(model)
        _scales_of_any_value(model)
    store_tables(model, recipe.tables_from_window)
    store_compactly(model, recipe.float16_constants, recipe.int8_biases_from)
    if recipe.portable:
        give_plain_names(model)
    versions.set_operator_versions(model)
    versions.set_min_runtime_version(model)
    return flatbuffer.write_model(model)


def prepared(float_file: bytes, recipe: Recipe) -> bytes:
    """The float file as a recipe needs it, before ranges are collected: the same, but for those that compute on integers alone.

    There the mask is clamped, since -100 would spend most of the scale of the scores on what a softmax makes zero of anyway; and a file
    with an integer interface ends in its logits.
    """
    if not recipe.integer_bits and not recipe.portable:
        return float_file
    model = flatbuffer.read_model(float_file)
    if recipe.portable:
        make_portable(model, bool(recipe.integer_bits))
    if recipe.integer_bits == 16:
        write_out_gelu(model)
    if recipe.integer_bits:
        _clamp_masks(model)
    if recipe.integer_interface:
        _end_in_logits(model)
    return flatbuffer.write_model(model)


def static_tensors(float_file: bytes, recipe: Recipe, modes: Mapping[str, str] | None = None) -> dict[str, int]:
    """Name and index of every activation a recipe quantizes statically: the inputs and outputs of its operations."""
    model = flatbuffer.read_model(float_file)
    if recipe.integer_bits:
        indices = [index for _, operator in flatbuffer.operators(model) for index in (*operator.inputs, *operator.outputs)]
        indices = [index for index in indices if index >= 0 and flatbuffer.constant(model, index) is None]
        return {flatbuffer.tensor_name(model, i): int(i) for i in indices if flatbuffer.tensor_type(model, i) == "FLOAT32"}
    modes = modes or layer_modes(model, recipe)
    layers = [layer for layer in dense_layers(model) if modes[layer.name] == STATIC]
    return {flatbuffer.tensor_name(model, index): index for layer in layers for index in (layer.input, layer.output)}


def layer_modes(model: schema.ModelT, recipe: Recipe, calibration: Calibration | None = None) -> dict[str, str]:
    """The mode of every dense layer, by its output's name.

    Args:
        model: the float file.
        recipe: says the mode of each role.
        calibration: where the recipe asks for it, static layers whose outputs 8 bits cannot hold on these samples go a step up its ladder.
    """
    modes = {layer.name: recipe.dense_mode(layer.role, num_inputs(model, layer)) for layer in dense_layers(model)}
    modes |= {layer.name: DYNAMIC for layer in dense_layers(model) if modes[layer.name] == DYNAMIC4 and not takes_four_bits(model, layer)}
    if recipe.min_output_snr_db is not None and calibration is not None:
        for layer in dense_layers(model):
            name = flatbuffer.tensor_name(model, layer.input)
            if modes[layer.name] != STATIC or name not in calibration.rows:
                continue
            outputs = clipping.some(calibration.rows[name]) @ weight_matrix(model, layer).T
            if clipping.snr_db(outputs, *calibration.ranges[layer.name]) < recipe.min_output_snr_db:
                modes[layer.name] = recipe.ladder[1]
    return modes


def watched_tensors(float_file: bytes, recipe: Recipe) -> tuple[dict[str, int], dict[str, int]]:
    """What calibration must watch for a recipe: the tensors (name -> index), and of which to keep rows (name -> side of a patch)."""
    tensors, patches = static_tensors(float_file, recipe), {}
    if recipe.fitted_to_inputs:
        model = flatbuffer.read_model(float_file)
        for layer in dense_layers(model):
            name = flatbuffer.tensor_name(model, layer.input)
            tensors[name] = layer.input
            patches[name] = flatbuffer.tensor_shape(model, layer.weights)[1] if layer.operation == "CONV_2D" else 1
    return tensors, patches


def layers_to_round(recipe: Recipe, modes: Mapping[str, str]) -> int:
    """How often `quantize` calls `each`."""
    if not recipe.fitted_to_inputs:
        return 0
    return len(modes) if recipe.integer_bits else sum(mode != FLOAT for mode in modes.values())


def _rounded_for_inputs(
    float_file: bytes, calibration: Calibration, bits: Mapping[str, int], threads: int = 1, each: Callable[[], None] = lambda: None
) -> bytes:
    """The float file with the weights of some dense layers rounded, and the biases that go with them.

    Weights of 8 bits are put on their grid, which the quantizer finds again; those of 4 bits wait in `calibration.rounded`.

    Args:
        float_file: the float flatbuffer.
        calibration: has rows of what the layers read.
        bits: of the weights, by the name of the layer's output.
        threads: for layers of different inputs, side by side.
        each: called for each of the layers once it is rounded.
    """
    model = flatbuffer.read_model(float_file)
    layers = dense_layers(model)
    wanted = {
        (layer.input, bits[layer.name]): None
        for layer in layers
        if layer.name in bits and (layer.name, bits[layer.name]) not in calibration.rounded
    }

    def made(one: tuple[int, int]) -> dict[str, Rounded]:
        index, width = one
        return _rounded(model, [layer for layer in layers if layer.input == index], calibration.rows, width)

    # the largest first, so that none of them runs alone at the end
    order = sorted(wanted, key=lambda one: -flatbuffer.tensor_shape(model, one[0])[-1])
    with _side_by_side(threads) as pool:
        for (_, width), rounded in zip(order, pool.map(made, order), strict=True):
            calibration.rounded |= {(name, width): one for name, one in rounded.items()}
            for name in rounded:
                if bits.get(name) == width:
                    each()
    for layer in layers:
        if layer.name in bits:
            rounded = calibration.rounded[layer.name, bits[layer.name]]
            if rounded.scale is None:
                set_constant(model, layer, 1, rounded.weights)
            if rounded.bias is not None:
                set_constant(model, layer, 2, rounded.bias)
    flatbuffer.drop_unused_buffers(model)
    return flatbuffer.write_model(model)


@contextlib.contextmanager
def _side_by_side(threads: int) -> Iterator[ThreadPoolExecutor]:
    """A pool for layers that do not depend on each other. Each is computed on one thread: BLAS's own threads would spin beside the pool's,
    which takes two to three times the processor time (small224 on two cores: 92 s instead of 34 s), for the same bytes."""
    with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(threads) as pool:
        yield pool


def _rounded(model: schema.ModelT, layers: Sequence[DenseLayer], rows: Mapping[str, np.ndarray], bits: int) -> dict[str, Rounded]:
    """The weights of layers that read the same input, rounded, by the layers' names."""
    name = flatbuffer.tensor_name(model, layers[0].input)
    if name not in rows:
        raise ValueError(f"calibration must hold rows of every dense layer's input. Missing: {name!r}")
    exact = [weight_matrix(model, layer) for layer in layers]
    ends = np.cumsum([len(weights) for weights in exact])[:-1]
    if bits == 8:
        stored = values = np.split(gptq.error_optimal(np.concatenate(exact), rows[name]), ends)
        scales: Sequence[np.ndarray | None] = [None] * len(layers)
    else:
        steps, scale = gptq.four_bits(np.concatenate(exact), rows[name])
        stored, values, scales = (np.split(array, ends) for array in (steps, steps * scale[:, None], scale))
    made = {}
    for layer, before, weights, after, scale in zip(layers, exact, stored, values, scales, strict=True):
        bias = None
        if layer.bias is not None:
            bias = gptq.corrected_bias(flatbuffer.float_constant(model, layer.bias), before, after, rows[name])
        made[layer.name] = Rounded(weights, scale, bias)
    return made


def _clipped_inputs(
    float_file: bytes, calibration: Calibration, modes: Mapping[str, str], threads: int = 1
) -> dict[str, tuple[float, float]]:
    """The ranges with those of the static layers' inputs as narrow as is best for all static layers that read them."""
    model = flatbuffer.read_model(float_file)
    readers: dict[str, list[np.ndarray]] = {}
    for layer in dense_layers(model):
        if modes[layer.name] == STATIC:
            readers.setdefault(flatbuffer.tensor_name(model, layer.input), []).append(weight_matrix(model, layer))
    for name in readers:
        if name not in calibration.ranges or name not in calibration.rows:
            raise ValueError(f"calibration must hold range and rows of every static layer's input. Missing: {name!r}")

    def best(name: str) -> tuple[float, float]:
        return clipping.best_range(*calibration.ranges[name], calibration.rows[name], np.concatenate(readers[name]))

    with _side_by_side(threads) as pool:
        return calibration.ranges | dict(zip(readers, pool.map(best, readers), strict=True))


def _quantize_operations(float_file: bytes, recipe: Recipe, ranges: Mapping[str, tuple[float, float]], modes: Mapping[str, str]) -> bytes:
    from ai_edge_quantizer import qtyping, quantizer

    engine = quantizer.Quantizer(float_file)
    for layer in () if recipe.integer_bits else dense_layers(flatbuffer.read_model(float_file)):
        scope, operation = f"^{re.escape(layer.name)};$", qtyping.TFLOperationName[layer.operation]
        if modes[layer.name] == STATIC:
            engine.add_static_config(scope, operation, activation_num_bits=8, weight_num_bits=8)
        elif modes[layer.name] == DYNAMIC:
            engine.add_dynamic_config(scope, operation, num_bits=8)
    if recipe.integer_bits:
        engine.add_static_config(".*", qtyping.TFLOperationName.ALL_SUPPORTED, activation_num_bits=recipe.integer_bits, weight_num_bits=8)
        for name in () if recipe.integer_interface else ("INPUT", "OUTPUT"):
            engine.update_quantization_recipe(".*", qtyping.TFLOperationName[name], algorithm_key="no_quantize")
        for name, operation in _stream(flatbuffer.read_model(float_file)) if recipe.wide_streams else ():
            engine.add_static_config(
                f"^{re.escape(name)};$", qtyping.TFLOperationName[operation], activation_num_bits=16, weight_num_bits=8
            )
        float_model = flatbuffer.read_model(float_file)
        for final in _made_by(float_model, "SOFTMAX"):  # probabilities of thousands of classes lie below a step of 16 bits: it stays float
            final = flatbuffer.tensor_name(float_model, final)
            engine.update_quantization_recipe(re.escape(final), qtyping.TFLOperationName.SOFTMAX, algorithm_key="no_quantize")
    statistics = None
    needed = static_tensors(float_file, recipe, modes)
    if needed:
        missing = sorted(set(needed) - set(ranges))
        if missing:
            raise ValueError(f"ranges must cover every static activation. Missing: {len(missing)}, first {missing[0]!r}")
        model = flatbuffer.read_model(float_file)
        if recipe.integer_bits:
            ranges = _symmetric_right_sides(model, ranges)
        statistics = {}
        for name, index in needed.items():
            shape = (1,) * len(flatbuffer.tensor_shape(model, index))
            low, high = ranges[name]
            statistics[name] = {"min": np.full(shape, low, np.float32), "max": np.full(shape, high, np.float32)}
    silence = io.StringIO()  # the quantizer reports on stdout, which belongs to our results, and draws a bar of its own
    with contextlib.redirect_stdout(silence), contextlib.redirect_stderr(silence):
        result = engine.quantize(statistics, enable_progress_bar=False, enable_progress_report=False)
    return bytes(result.quantized_model)


def _clamp_masks(model: schema.ModelT) -> None:
    """Every mask gets `INTEGER_MASK` for what is not zero."""
    for index, tensor in enumerate(model.subgraphs[0].tensors):
        if flatbuffer.tensor_name(model, index).startswith(MASK) and flatbuffer.constant(model, index) is not None:
            values = flatbuffer.float_constant(model, index)
            clamped = np.where(values == 0.0, np.float32(0.0), np.float32(INTEGER_MASK))
            model.buffers[tensor.buffer].data = clamped.view(np.uint8)


def _scales_of_any_value(model: schema.ModelT) -> None:
    """Says of every addition and subtraction that its 16-bit scales are no powers of two.

    The schema says by default that they are. Where all three come within 0.1 % of one, as `x / 127.5 - 1` of an image does, the runtime
    shifts in place of multiplying. It can do so only where no input is coarser than the output, and refuses the file elsewhere.
    """
    for name, operator in flatbuffer.operators(model):
        if name in ("ADD", "SUB") and operator.builtinOptions is not None:
            operator.builtinOptions.potScaleInt16 = False


def _stream(model: schema.ModelT) -> list[tuple[str, str]]:
    """(name of the output, operation) of everything in the residual stream: what stands outside attention and is no dense layer."""
    named = [(flatbuffer.tensor_name(model, int(operator.outputs[0])), operation) for operation, operator in flatbuffer.operators(model)]
    return [
        (name, operation) for name, operation in named if operation in _STREAM and "attention" not in flatbuffer.scope(name.split(";")[0])
    ]


def _made_by(model: schema.ModelT, *operations: str) -> dict[int, schema.OperatorT]:
    """Of the graph's outputs those that such an operation makes, with it."""
    made = {int(index): operator for name, operator in flatbuffer.operators(model) if name in operations for index in operator.outputs}
    return {int(index): made[int(index)] for index in model.subgraphs[0].outputs if int(index) in made}


def _end_in_logits(model: schema.ModelT) -> None:
    """Takes a last softmax or sigmoid off: the graph and its signature end in what goes into it."""
    graph, signature = model.subgraphs[0], model.signatureDefs[0]
    first = int(graph.outputs[0])
    for output, operator in _made_by(model, "SOFTMAX", "LOGISTIC").items():
        logits = int(operator.inputs[0])
        graph.operators = [one for one in graph.operators if one is not operator]
        graph.outputs = np.asarray([logits if index == output else index for index in graph.outputs], np.int32)
        for entry in signature.outputs:
            if entry.tensorIndex == output:
                entry.tensorIndex, entry.name = logits, b"logits" if output == first else entry.name


def _symmetric_right_sides(model: schema.ModelT, ranges: Mapping[str, tuple[float, float]]) -> dict[str, tuple[float, float]]:
    """The ranges with zero point 0 for the right side of every BATCH_MATMUL, back to the operation that computes it.

    With another zero point TF 2.21's interpreter returns wrong numbers, and LiteRT leaves its fast kernels.
    """
    made_by = {int(index): (name, operator) for name, operator in flatbuffer.operators(model) for index in operator.outputs}
    changed = dict(ranges)
    for name, operator in flatbuffer.operators(model):
        if name != "BATCH_MATMUL":
            continue
        chain = [int(operator.inputs[1])]
        for index in chain:  # grows while it is read
            mover, moved_by = made_by.get(index, ("", None))
            if moved_by is not None and mover in ("RESHAPE", "TRANSPOSE", "STRIDED_SLICE", "CONCATENATION"):
                values = moved_by.inputs if mover == "CONCATENATION" else moved_by.inputs[:1]
                chain += [int(value) for value in values if int(value) not in chain]
        names = [flatbuffer.tensor_name(model, index) for index in chain]
        bound = max(max(-ranges[tensor][0], ranges[tensor][1]) for tensor in names)
        changed |= {tensor: (-bound, bound * 127 / 128) for tensor in names}
    return changed
