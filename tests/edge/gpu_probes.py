"""Small graphs, one question each, for a GPU delegate and the rules that predict it: NAME -> (function of (tf, inputs), input shapes)."""

import numpy as np

from benchmarks import foreign_kinds, gpu_reports

_GENERATOR = np.random.default_rng(0)


def _weights(*shape: int) -> np.ndarray:
    return _GENERATOR.standard_normal(shape).astype(np.float32)


def _conv(tf, x, kernel, strides):
    return tf.nn.conv2d(x, kernel, strides, "SAME")


GRID = (1, 4, 6, 8)
_DENSE, _KERNEL, _DEPTHWISE = _weights(8, 5), _weights(3, 3, 8, 5), _weights(3, 3, 8, 1)
_OTHER, _ROW, _MASK = _weights(*GRID), _weights(8), _weights(4, 6) > 0

PROBES = {
    # elementwise
    **{
        name: (lambda tf, x, function=function: function(tf, tf.nn.relu(x) + 0.5), [GRID])
        for name, function in {
            "abs": lambda tf, x: tf.abs(-x),
            "cos": lambda tf, x: tf.cos(x),
            "elu": lambda tf, x: tf.nn.elu(x - 1.0),
            "exp": lambda tf, x: tf.exp(x),
            "floor": lambda tf, x: tf.floor(x),
            "gelu": lambda tf, x: tf.nn.gelu(x - 1.0, approximate=False),
            "gelu approximate": lambda tf, x: tf.nn.gelu(x - 1.0, approximate=True),
            "hard swish": lambda tf, x: x * tf.nn.relu6(x + 3.0) * (1.0 / 6.0),
            "leaky relu": lambda tf, x: tf.nn.leaky_relu(x - 1.0),
            "log": lambda tf, x: tf.math.log(x),
            "logistic": lambda tf, x: tf.sigmoid(x),
            "negative": lambda tf, x: -x,
            "power": lambda tf, x: tf.pow(x, 1.5),
            "relu6": lambda tf, x: tf.nn.relu6(x * 4.0),
            "reciprocal square root": lambda tf, x: tf.math.rsqrt(x),
            "round": lambda tf, x: tf.round(x * 3.3),
            "sin": lambda tf, x: tf.sin(x),
            "square": lambda tf, x: tf.square(x),
            "square root": lambda tf, x: tf.sqrt(x),
            "tanh": lambda tf, x: tf.tanh(x),
            "add a row": lambda tf, x: x + _ROW,
            "add a scalar": lambda tf, x: x + 2.5,
            "add a constant": lambda tf, x: x + _OTHER,
            "add, broadcast both ways": lambda tf, x: x[:, :1] + x[:, :, :1],
            "divide": lambda tf, x: x / (x + 1.0),
            "maximum": lambda tf, x: tf.maximum(x, _OTHER),
            "minimum": lambda tf, x: tf.minimum(x, _OTHER),
            "multiply by a row": lambda tf, x: x * _ROW,
            "subtract from a constant": lambda tf, x: _OTHER - x,
            "squared difference": lambda tf, x: tf.math.squared_difference(x, _OTHER),
        }.items()
    },
    # reductions and norms
    "mean of channels": (lambda tf, x: tf.reduce_mean(x, -1, keepdims=True) * x, [GRID]),
    "mean of a grid": (lambda tf, x: tf.reduce_mean(x, (1, 2)), [GRID]),
    "sum of channels": (lambda tf, x: tf.reduce_sum(x, -1, keepdims=True) * x, [GRID]),
    "maximum of channels": (lambda tf, x: tf.reduce_max(x, -1, keepdims=True) * x, [GRID]),
    "argmax": (lambda tf, x: tf.cast(tf.argmax(x, -1, output_type="int32"), "float32"), [GRID]),
    "l2 norm": (lambda tf, x: tf.nn.l2_normalize(x, -1), [GRID]),
    "softmax": (lambda tf, x: tf.nn.softmax(x), [GRID]),
    "softmax of rank 2": (lambda tf, x: tf.nn.softmax(x), [(1, 10)]),
    "softmax of a batch": (lambda tf, x: tf.nn.softmax(x), [(3, 4, 6, 8)]),
    "cumulated sum": (lambda tf, x: tf.cumsum(x, -1), [GRID]),
    # layers
    "dense on rank 4": (lambda tf, x: tf.einsum("bhwc,cd->bhwd", x, _DENSE), [GRID]),
    "dense on rank 2": (lambda tf, x: tf.matmul(x, _DENSE), [(1, 8)]),
    "dense on many rows of rank 2": (lambda tf, x: tf.matmul(x, _DENSE), [(6, 8)]),
    "dense on rank 3": (lambda tf, x: tf.einsum("bnc,cd->bnd", x, _DENSE), [(1, 6, 8)]),
    "dense on a batch": (lambda tf, x: tf.einsum("bhwc,cd->bhwd", x, _DENSE), [(3, 4, 6, 8)]),
    "convolution": (lambda tf, x: _conv(tf, x, _KERNEL, 1), [GRID]),
    "convolution, stride 2": (lambda tf, x: _conv(tf, x, _KERNEL, 2), [GRID]),
    "depthwise convolution": (lambda tf, x: tf.nn.depthwise_conv2d(x, _DEPTHWISE, (1, 1, 1, 1), "SAME"), [GRID]),
    "max pooling": (lambda tf, x: tf.nn.max_pool2d(x, 2, 2, "VALID"), [GRID]),
    "average pooling": (lambda tf, x: tf.nn.avg_pool2d(x, 2, 2, "VALID"), [GRID]),
    "resize": (lambda tf, x: tf.image.resize(x, (8, 12)), [GRID]),
    # matrix products
    "matrix product": (lambda tf, x, y: tf.matmul(x, y), [(1, 3, 4, 8), (1, 3, 8, 4)]),
    "matrix product of rank 3": (lambda tf, x, y: tf.matmul(x, y), [(3, 4, 8), (3, 8, 4)]),
    "matrix product of a batch": (lambda tf, x, y: tf.matmul(x, y), [(2, 3, 4, 8), (2, 3, 8, 4)]),
    "matrix product, right side broadcast": (lambda tf, x, y: tf.matmul(x, y), [(1, 3, 4, 8), (1, 1, 8, 4)]),
    "matrix product, left side broadcast": (lambda tf, x, y: tf.matmul(x, y), [(1, 1, 4, 8), (1, 3, 8, 4)]),
    "matrix product, right side transposed": (lambda tf, x, y: tf.matmul(x, y, adjoint_b=True), [(1, 3, 4, 8), (1, 3, 4, 8)]),
    "matrix product, left side transposed": (lambda tf, x, y: tf.matmul(x, y, adjoint_a=True), [(1, 3, 8, 4), (1, 3, 8, 4)]),
    # moving values
    "transpose of rank 5": (lambda tf, x: tf.transpose(x, (0, 3, 1, 2, 4)), [(1, 2, 3, 4, 5)]),
    "rank 5 in between": (lambda tf, x: tf.reshape(tf.reshape(x, (1, 2, 2, 6, 8)) * 2.0, GRID), [GRID]),
    "transpose": (lambda tf, x: tf.transpose(x, (0, 2, 1, 3)), [GRID]),
    "transpose of channels": (lambda tf, x: tf.transpose(x, (0, 3, 1, 2)), [GRID]),
    "transpose of a batch": (lambda tf, x: tf.transpose(x, (1, 0, 2, 3)), [(2, 4, 6, 8)]),
    "reshape": (lambda tf, x: tf.reshape(x, (1, 6, 4, 8)) * 2.0, [GRID]),
    "reshape into a batch": (lambda tf, x: tf.reshape(tf.reshape(x, (4, 1, 6, 8)) * 2.0, GRID), [GRID]),
    "slice": (lambda tf, x: x[:, 1:3] * 2.0, [GRID]),
    "slice that drops a dimension": (lambda tf, x: x[:, 0] * 2.0, [GRID]),
    "slice with a stride": (lambda tf, x: x[:, ::2, ::2] * 2.0, [GRID]),
    "concatenate": (lambda tf, x: tf.concat([x[:, 2:], x[:, :2]], 1), [GRID]),
    "concatenate channels": (lambda tf, x: tf.concat([x, x * 2.0], -1), [GRID]),
    "concatenate a constant": (lambda tf, x: tf.concat([x, _OTHER], 1), [GRID]),
    "pad": (lambda tf, x: tf.pad(x, ((0, 0), (0, 1), (0, 2), (0, 0))), [GRID]),
    "pad by mirroring": (lambda tf, x: tf.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), "REFLECT"), [GRID]),
    "split": (lambda tf, x: tf.add_n([part * (1.0 + index) for index, part in enumerate(tf.split(x, 2, -1))]), [GRID]),
    "stack": (lambda tf, x: tf.stack([x, x * 2.0], 1), [(1, 6, 8)]),
    "unstack": (lambda tf, x: (lambda parts: (parts[0] + parts[1]) * (parts[2] - parts[3]))(tf.unstack(x, axis=1)), [GRID]),
    "tile": (lambda tf, x: tf.tile(x, (1, 2, 1, 1)) * 2.0, [GRID]),
    "space to depth": (lambda tf, x: tf.nn.space_to_depth(x, 2), [GRID]),
    "depth to space": (lambda tf, x: tf.nn.depth_to_space(x, 2), [GRID]),
    "reverse": (lambda tf, x: tf.reverse(x * 2.0, [1]), [GRID]),
    "gather": (lambda tf, x: tf.gather(x, [2, 0], axis=1) * 2.0, [GRID]),
    "gather one": (lambda tf, x: tf.gather(x, 1, axis=1) * 2.0, [GRID]),
    "gather a table": (lambda tf, x: tf.gather(x, [[2, 0], [1, 3]], axis=1) * 2.0, [(1, 4, 8)]),
    "gather points": (lambda tf, x: tf.gather_nd(x, [[0, 1, 2], [0, 3, 4]]) * 2.0, [GRID]),
    "broadcast to": (lambda tf, x: tf.broadcast_to(x[:, :1], (1, 4, 6, 8)) * x, [GRID]),
    "roll": (lambda tf, x: tf.roll(x, (-1, -2), (1, 2)) * 2.0, [GRID]),
    "select": (lambda tf, x: tf.where(x > 0.0, x, _OTHER), [GRID]),
    "select by a mask of rank 2": (lambda tf, x: tf.where(_MASK[None, :, :, None], x, x * 0.5), [GRID]),
    "compare": (lambda tf, x: tf.cast(x > 0.3, "float32"), [GRID]),
    "cast to int64": (lambda tf, x: tf.cast(tf.cast(x * 4.0, "int64") + 1, "float32"), [GRID]),
    "cast to int32": (lambda tf, x: tf.cast(tf.cast(x * 4.0, "int32") + 1, "float32"), [GRID]),
    "one-hot": (lambda tf, x: tf.one_hot(tf.cast(x, "int32"), 5), [(1, 4, 6)]),
    "sum of three": (lambda tf, x: tf.add_n([x, x * 2.0, x * 3.0]), [GRID]),
    "largest five": (lambda tf, x: tf.math.top_k(x, 5).values, [GRID]),
    # what files of others hold besides
    **foreign_kinds.PROBES,
    # what others reported of the delegate
    **gpu_reports.PROBES,
}

# The forms a rule is about: refused, wrong, or taken where a rule of thumb says they are not. Asked about more often than the rest.
TELLING = (
    "l2 norm", "cumulated sum", "matrix product", "matrix product, right side broadcast", "matrix product, left side broadcast",
    "matrix product, right side transposed", "transpose of rank 5", "rank 5 in between", "slice that drops a dimension", "gather",
    "gather one", "gather a table", "gather points", "select", "cast to int64", "one-hot", "sum of three", "dense on many rows of rank 2",
)  # fmt: skip

_SQUARE = _weights(8, 8)


def _rows(tf, x):
    return tf.reshape(x, (24, 8))


def _grid(tf, x):
    return tf.reshape(x, GRID)


def _dense(tf, x):
    return tf.matmul(x, _SQUARE)


# Dense layers, each to be asked about in every recipe that quantizes them
QUANTIZED_PROBES = {
    **{name: PROBES[name] for name in PROBES if name.startswith("dense") or name == "convolution"},
    "rows of a grid as output": (lambda tf, x: _dense(tf, _rows(tf, x)), [GRID]),
    "rows of a grid": (lambda tf, x: _grid(tf, _dense(tf, _rows(tf, x))), [GRID]),
    "rows of a grid, two layers": (lambda tf, x: _grid(tf, _dense(tf, _dense(tf, _rows(tf, x)))), [GRID]),
    "rows of a grid, then GELU": (lambda tf, x: _grid(tf, tf.nn.gelu(_dense(tf, _rows(tf, x)))), [GRID]),
    "rows of a grid, GELU between": (lambda tf, x: _grid(tf, _dense(tf, tf.nn.gelu(_dense(tf, _rows(tf, x))))), [GRID]),
    "rows of a grid, GELU before": (lambda tf, x: _grid(tf, _dense(tf, tf.nn.gelu(_rows(tf, x)))), [GRID]),
    "rows of a grid, then a mean": (lambda tf, x: (lambda y: y - tf.reduce_mean(y, -1, keepdims=True))(_dense(tf, _rows(tf, x))), [GRID]),
    "rows of a grid, heads": (lambda tf, x: tf.transpose(tf.reshape(_dense(tf, _rows(tf, x)), (1, 24, 2, 4)), (0, 2, 1, 3)), [GRID]),
    "rows, then GELU": (lambda tf, x: tf.nn.gelu(_dense(tf, x * 2.0)), [(24, 8)]),
    "rows, then GELU and a grid": (lambda tf, x: _grid(tf, tf.nn.gelu(_dense(tf, x * 2.0))) * 2.0, [(24, 8)]),
    "tokens, then GELU": (lambda tf, x: tf.nn.gelu(tf.einsum("bnc,cd->bnd", x * 2.0, _SQUARE)), [(4, 6, 8)]),
    "tokens of a grid, then GELU": (
        lambda tf, x: _grid(tf, tf.nn.gelu(tf.einsum("bnc,cd->bnd", tf.reshape(x * 2.0, (4, 6, 8)), _SQUARE))),
        [GRID],
    ),
    "a batch of a grid, then GELU": (
        lambda tf, x: _grid(tf, tf.nn.gelu(tf.einsum("bhwc,cd->bhwd", tf.reshape(x * 2.0, (4, 1, 6, 8)), _SQUARE))),
        [GRID],
    ),
    "a grid, then GELU": (lambda tf, x: tf.nn.gelu(tf.einsum("bhwc,cd->bhwd", x * 2.0, _SQUARE)), [GRID]),
    **gpu_reports.QUANTIZED_PROBES,
}

TELLING_QUANTIZED = (
    "rows of a grid, two layers",
    "rows of a grid, then GELU",
    "rows, then GELU",
    "a grid, then GELU",
    "rows of a grid as output",
)
