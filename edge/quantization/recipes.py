"""What each `--quant` name means, as data."""

from __future__ import annotations

import dataclasses

from edge.drift.limits import Limits
from tfvit.errors import unknown_name

STATIC, DYNAMIC, FLOAT = "static", "dynamic", "float"
DYNAMIC4 = "dynamic4"
# Bits of a dense layer's weights by its mode; float ones are left alone
WEIGHT_BITS = {STATIC: 8, DYNAMIC: 8, DYNAMIC4: 4}
MILLISECONDS, BYTES = "milliseconds", "bytes"
# Of `edge.export.rewrites`, which needs Keras; this table does not. The first pay everywhere
REWRITES = ("fold_norm_affine", "centre_norm_inputs", "keep_read_tokens", "fold_normalization")
FOR_NPUS = (*REWRITES, "heads_first", "patches_by_rows")


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How a float flatbuffer becomes the file that ships.

    Attributes:
        name: what `--quant` takes.
        summary: one line for help and reports.
        dense: mode of the dense and convolution layers: `STATIC` (int8 weights, calibrated int8 activations), `DYNAMIC` (int8 weights,
            activations quantized as they come), `DYNAMIC4` (the same with 4-bit weights) or `FLOAT`.
        dense_by_role: (role, mode) of those that differ; the roles are those of `edge.quantization.dense_layers`. `FLOAT` is for layers of
            few inputs.
        min_output_snr_db: static layers whose outputs, on calibration images, 8 bits hold worse than this go one step up the ladder. Needs
            `fitted_to_inputs`.
        float16_constants: large constants are stored as float16.
        int8_biases_from: position biases of this many elements and more are stored as int8, the others as float16, masks as int8; None
            leaves them to `float16_constants` (see `edge.quantization.compact_constants`).
        tables_from_window: position biases and masks of windows of this side and more are stored as tables (see
            `edge.quantization.position_tables`); None: none.
        integer_bits: 8 or 16: every operation computes on integers, activations of that many bits, weights of 8.
        integer_interface: integers in and out too, and logits out, whatever else is asked for: 8 bits cannot say probabilities.
        wide_streams: where `integer_bits` is 8, what flows past the dense layers and what normalises it has 16.
        fitted_to_inputs: on samples of what the dense layers read, weights are rounded and biases corrected (see
            `edge.quantization.gptq`), and the ranges of static layers' inputs narrowed (`edge.quantization.clipping`), for the least
            error at the layers' outputs.
        repairs: where the file misses its gate, its worst dense layers are demoted until it passes (see `edge.quantization.repair`).
        rewrites: of `edge.export.rewrites`, on the model before it is exported.
        limits: the default drift gate.
        modes: those its dense layers may have, from the one that costs least to the most exact.
        spares: what a repair gives up as little of as it can, `MILLISECONDS` or `BYTES`.
        fits_size: whether it makes the most exact file of a size, where one is asked for.
        calibration_rows: vectors of what each dense layer reads, of each calibration image.
        without_dynamic: layers that would be dynamic stay in float, for runtimes that know no dynamic ones.
        portable: nothing in the file but what readers other than LiteRT have too (see `edge.quantization.portable`).
    """

    name: str
    summary: str
    limits: Limits
    dense: str = FLOAT
    dense_by_role: tuple[tuple[str, str], ...] = ()
    min_output_snr_db: float | None = None
    float16_constants: bool = False
    int8_biases_from: int | None = None
    tables_from_window: int | None = None
    integer_bits: int | None = None
    integer_interface: bool = False
    wide_streams: bool = False
    fitted_to_inputs: bool = False
    repairs: bool = False
    rewrites: tuple[str, ...] = REWRITES
    modes: tuple[str, ...] = (STATIC, DYNAMIC, FLOAT)
    spares: str = MILLISECONDS
    fits_size: bool = False
    calibration_rows: int = 8
    without_dynamic: bool = False
    portable: bool = False

    def for_runtime(self, version: tuple[int, ...]) -> Recipe:
        """The recipe as a runtime can run it: before `DYNAMIC_SINCE`, layers that would be dynamic beside static ones stay in float."""
        has_both = self.needs_calibration and DYNAMIC4 not in self.modes
        return dataclasses.replace(self, without_dynamic=True) if has_both and version < DYNAMIC_SINCE else self

    def with_written_out_biases(self) -> Recipe:
        """The recipe without position tables, which a GPU looks up at every inference."""
        return dataclasses.replace(self, tables_from_window=None)

    def for_any_reader(self) -> Recipe:
        """The recipe for readers that have fewer operations than LiteRT, and no constants of 8 bits or 16 where float32 is computed."""
        return dataclasses.replace(self, portable=True, int8_biases_from=None)

    def for_input(self, dtype: str) -> Recipe:
        """The recipe with an input of this type: int16 is that of activations, and the output's too."""
        return dataclasses.replace(self, integer_interface=True) if dtype == INT16 else self

    @property
    def takes_int16(self) -> bool:
        """Whether `for_input` has a form for int16."""
        return self.integer_bits == 16

    @property
    def has_portable_form(self) -> bool:
        """Whether readers other than LiteRT compute with its types: none has 4-bit weights or 16-bit activations."""
        return DYNAMIC4 not in self.modes and self.integer_bits != 16 and not self.wide_streams

    @property
    def needs_calibration(self) -> bool:
        static = STATIC in (self.dense, *dict(self.dense_by_role).values())
        return bool(static or self.integer_bits or self.fitted_to_inputs)

    @property
    def is_float_graph(self) -> bool:
        """Whether its file is the float graph itself."""
        return not (self.integer_bits or self.float16_constants or self.can_be_explained)

    @property
    def can_be_explained(self) -> bool:
        """Whether it has dense layers whose modes can be changed one by one."""
        return not self.integer_bits and {self.dense, *dict(self.dense_by_role).values()} != {FLOAT}

    def dense_mode(self, role: str, inputs: int) -> str:
        """The mode of a dense layer, by its role and by how many numbers go into each of its outputs."""
        mode = dict(self.dense_by_role).get(role, self.dense)
        if mode == FLOAT and inputs >= _WIDE:
            mode = self.dense
        return mode if mode in self.ladder else FLOAT

    @property
    def ladder(self) -> tuple[str, ...]:
        """`modes`, as far as the runtime has them."""
        return tuple(mode for mode in self.modes if mode != DYNAMIC or not self.without_dynamic)

    def input_dtype(self, asked: str) -> str:
        """The type of the file's input, where `asked` is wanted."""
        return f"int{self.integer_bits}" if self.integer_interface else asked

    def output(self, asked: str) -> str:
        """ "probabilities" or "logits", where `asked` is wanted."""
        return "logits" if self.integer_interface else asked


# Asked of an input: integers as the activations are
INT16 = "int16"
# Elements of a position bias: those of windows of 16 x 16 tokens and more, at which they begin to outweigh the weights
_LARGE_BIASES = 3 * 256 * 256
# Side of the windows whose biases are stored as tables: all of those where a table is stored in place of int8 values; where in place of
# float ones, which a GPU looks up at every inference, those at which the biases outweigh the weights
_LARGE_WINDOW, _LARGEST_WINDOW = 16, 24
# Static wherever it is faster and 8 bits can hold what the layer gives. Merging and head stay dynamic, which costs next to nothing; the
# patch embedding of windowed models has few inputs and writes the whole residual stream: in float it is as fast (docs/decisions/0010).
_ROLES_IN_INT8 = (
    ("attention/query", STATIC),
    ("attention/key", STATIC),
    ("attention/value", STATIC),
    ("attention/projection", STATIC),
    ("mlp/fc1", STATIC),
    ("mlp/fc2", STATIC),
    ("patch_embedding/projection", FLOAT),
)
# Inputs from which no role keeps a layer in float: patches of windowed models have 48, those of plain ones 588 and 768
_WIDE = 256
# Most layers have 34 to 39 dB; large models have some that end in a few large values, and lose points of accuracy to them.
_MIN_OUTPUT_SNR_DB = 33.0
# 8 bits: trained models have 28 to 39 dB without outliers and 27 to 34 with (decision 0041); 24 dB is where accuracy begins to go
# (results/outliers.csv, results/gate_record.csv). On 32 images without labels, often of nothing in particular, the two best classes lie
# close: 0.8 leaves six such flips, a broken file has far more. The last limit is of 256 images of the user's own (results/gate_record.csv).
_EIGHT_BITS = Limits(min_snr_db=24.0, min_agreement=0.8, max_top1_drop=1.0, min_photo_agreement=0.97)
# 4 bits, and integers alone, have 20 to 29 dB where nothing is wrong
_INTEGERS = dataclasses.replace(_EIGHT_BITS, min_snr_db=20.0)
_FOUR_BITS = dataclasses.replace(_INTEGERS, min_photo_agreement=0.95)

# 4 bits for everything but the head, whose few weights end in the answer itself, and the patch embedding, as in int8
_ROLES_IN_INT4 = (("head", DYNAMIC), ("patch_embedding/projection", FLOAT))

# First TensorFlow Lite with float layers on int8 weights of one scale a channel; older ones that are given some compute nonsense
DYNAMIC_SINCE = (2, 17)

RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        Recipe("float32", "no quantization: the reference file", Limits(80.0, 0.999, 0.05, 0.999), tables_from_window=_LARGEST_WINDOW),
        Recipe(
            "float16",
            "float16 constants, float arithmetic: half the size, for GPUs",
            Limits(40.0, 0.95, 0.1, 0.99),
            float16_constants=True,
            int8_biases_from=_LARGE_BIASES,
            tables_from_window=_LARGEST_WINDOW,
        ),
        Recipe(
            "int8",
            "int8 dense and convolution layers, calibrated, the rest float: for CPUs",
            _EIGHT_BITS,
            dense=DYNAMIC,
            dense_by_role=_ROLES_IN_INT8,
            min_output_snr_db=_MIN_OUTPUT_SNR_DB,
            fitted_to_inputs=True,
            repairs=True,
            int8_biases_from=0,
            tables_from_window=_LARGE_WINDOW,
        ),
        Recipe(
            "dynamic",
            "int8 weights, activations quantized as they come: no calibration",
            _EIGHT_BITS,
            dense=DYNAMIC,
            rewrites=("fold_norm_affine", "centre_norm_inputs", "keep_read_tokens"),  # pixels, normalised, spread more evenly over 8 bits
            int8_biases_from=0,
            tables_from_window=_LARGE_WINDOW,
        ),
        Recipe(
            "int4",
            "4-bit weights where they pay, activations quantized as they come: half of int8's bytes",
            _FOUR_BITS,
            dense=DYNAMIC4,
            dense_by_role=_ROLES_IN_INT4,
            modes=(DYNAMIC4, DYNAMIC, FLOAT),
            spares=BYTES,
            calibration_rows=32,
            fitted_to_inputs=True,
            repairs=True,
            int8_biases_from=0,
            tables_from_window=_LARGE_WINDOW,
        ),
        Recipe(
            "smallest",
            "the fewest bytes that pass the gate: 4, 8 or 32 bits for each layer, by what it does to the answers",
            _FOUR_BITS,
            dense=DYNAMIC4,
            modes=(DYNAMIC4, DYNAMIC, FLOAT),
            spares=BYTES,
            fits_size=True,
            calibration_rows=32,
            fitted_to_inputs=True,
            repairs=True,
            int8_biases_from=0,
            tables_from_window=1,
        ),
        Recipe(
            "int8_full",
            "integers only, int8 pixels in and int8 logits out: for NPUs",
            Limits(min_snr_db=12.0, min_agreement=0.7, max_top1_drop=2.0, min_photo_agreement=0.93),
            integer_bits=8,
            integer_interface=True,
            fitted_to_inputs=True,
            rewrites=FOR_NPUS,
        ),
        Recipe(
            "int8_wide",
            "int8_full with 16 bits in the residual stream: far more exact, for NPUs that have both",
            _INTEGERS,
            integer_bits=8,
            integer_interface=True,
            wide_streams=True,
            fitted_to_inputs=True,
            rewrites=FOR_NPUS,
        ),
        Recipe(
            "w8a16",
            "int8 weights, int16 activations in every operation: for NPUs",
            _INTEGERS,
            integer_bits=16,
            fitted_to_inputs=True,
            rewrites=FOR_NPUS,
        ),
    )
}


def find_recipe(name: str) -> Recipe:
    """The recipe called `name`.

    Raises:
        UsageError: no such recipe; near misses are named.
    """
    recipe = RECIPES.get(name.strip().lower())
    if recipe is None:
        raise unknown_name("recipe", name, RECIPES)
    return recipe
