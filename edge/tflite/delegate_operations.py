"""Operations that two delegates were given, in float and in 8 bits, and what became of them. What is in no set here was never tried.

tests/edge/tflite/test_gpu_rules.py and tests/edge/test_inspect.py ask the delegates themselves.
"""

from __future__ import annotations

# What XNNPACK's delegate takes in float32 (or dequantized float16)
XNNPACK = frozenset((
    "ABS", "ADD", "AVERAGE_POOL_2D", "BATCH_MATMUL", "CEIL", "CONCATENATION", "CONV_2D", "COS", "Convolution2DTransposeBias",
    "DEPTHWISE_CONV_2D", "DEPTH_TO_SPACE", "DEQUANTIZE", "DIV", "ELU", "EXP", "FLOOR", "FULLY_CONNECTED", "GELU", "HARD_SWISH",
    "LEAKY_RELU", "LOG", "LOGISTIC", "MAXIMUM", "MAX_POOL_2D", "MEAN", "MINIMUM", "MUL", "NEG", "PAD", "PRELU", "QUANTIZE",
    "REDUCE_MAX", "REDUCE_MIN", "RELU", "RELU6", "RELU_N1_TO_1", "RESHAPE", "RESIZE_BILINEAR", "ROUND", "RSQRT", "SIN", "SLICE",
    "SOFTMAX", "SPACE_TO_DEPTH", "SPLIT", "SQRT", "SQUARE", "SQUARED_DIFFERENCE", "STRIDED_SLICE", "SUB", "SUM", "TANH", "TRANSPOSE",
    "TRANSPOSE_CONV",
))  # fmt: skip
# What it was given and left to the runtime's own kernels
XNNPACK_LEFT = frozenset((
    "ADD_N", "ARG_MAX", "ARG_MIN", "ATAN2", "BATCH_TO_SPACE_ND", "BITWISE_XOR", "BROADCAST_TO", "CALL_ONCE", "CAST", "COMPLEX_ABS",
    "CONV_3D", "CUMSUM", "EQUAL", "FLOOR_DIV", "FLOOR_MOD", "GATHER", "GATHER_ND", "GREATER", "GREATER_EQUAL", "IF", "L2_NORMALIZATION",
    "LESS", "LESS_EQUAL", "LOCAL_RESPONSE_NORMALIZATION", "LOGICAL_AND", "LOGICAL_OR", "LOG_SOFTMAX", "MATRIX_DIAG", "MIRROR_PAD",
    "NON_MAX_SUPPRESSION_V4", "NOT_EQUAL", "ONE_HOT", "PACK", "PADV2", "POW", "REDUCE_ALL", "REDUCE_ANY", "REDUCE_PROD",
    "RESIZE_NEAREST_NEIGHBOR", "REVERSE_SEQUENCE", "REVERSE_V2", "RFFT2D", "SCATTER_ND", "SEGMENT_SUM", "SELECT", "SELECT_V2", "SHAPE",
    "SIGN", "SPACE_TO_BATCH_ND", "SPLIT_V", "TILE", "TOPK_V2", "UNIDIRECTIONAL_SEQUENCE_LSTM", "UNIQUE", "UNPACK", "WHERE", "WHILE",
    "ZEROS_LIKE",
))  # fmt: skip
# Of `XNNPACK`, what it takes in 8 bits too, and what it was given in 8 bits and left
XNNPACK_INTEGER = frozenset((
    "ADD", "BATCH_MATMUL", "CONCATENATION", "CONV_2D", "DEPTHWISE_CONV_2D", "DEPTH_TO_SPACE", "DEQUANTIZE", "FULLY_CONNECTED",
    "LEAKY_RELU", "LOGISTIC", "MAX_POOL_2D", "MEAN", "MUL", "PAD", "QUANTIZE", "REDUCE_MAX", "REDUCE_MIN", "RESHAPE", "RESIZE_BILINEAR",
    "SLICE", "SPACE_TO_DEPTH", "SPLIT", "STRIDED_SLICE", "SUB", "SUM", "TANH", "TRANSPOSE", "TRANSPOSE_CONV",
))  # fmt: skip
XNNPACK_LEFT_INTEGER = frozenset((
    "ABS", "AVERAGE_POOL_2D", "DIV", "EXP", "GELU", "HARD_SWISH", "LOG", "MAXIMUM", "MINIMUM", "RELU", "RSQRT", "SOFTMAX", "SQRT",
    "SQUARED_DIFFERENCE",
))  # fmt: skip
# They were seen to compile on the GPU, and to compute what the CPU computes: all of XNNPACK's and more
GPU = XNNPACK | frozenset((
    "ADD_N", "ARG_MAX", "ATAN2", "CAST", "EQUAL", "FLOOR_DIV", "FLOOR_MOD", "GATHER", "GREATER", "GREATER_EQUAL", "LESS", "LESS_EQUAL",
    "LOGICAL_AND", "LOGICAL_OR", "MIRROR_PAD", "NOT_EQUAL", "PACK", "PADV2", "POW", "REDUCE_ALL", "REDUCE_ANY", "REDUCE_PROD",
    "RESIZE_NEAREST_NEIGHBOR", "REVERSE_V2", "SELECT", "SELECT_V2", "SIGN", "SPLIT_V", "TILE", "TOPK_V2", "UNPACK",
))  # fmt: skip
# The GPU delegate was given them, and refused
GPU_REFUSED = frozenset((
    "ARG_MIN", "ASSIGN_VARIABLE", "BATCH_TO_SPACE_ND", "BITWISE_XOR", "BROADCAST_TO", "CALL_ONCE", "COMPLEX_ABS", "CONV_3D", "CUMSUM",
    "GATHER_ND", "IF", "L2_NORMALIZATION", "LOCAL_RESPONSE_NORMALIZATION", "LOG_SOFTMAX", "MATRIX_DIAG", "NON_MAX_SUPPRESSION_V4",
    "READ_VARIABLE", "REVERSE_SEQUENCE", "RFFT2D", "SCATTER_ND", "SEGMENT_SUM", "SHAPE", "SPACE_TO_BATCH_ND", "UNIQUE", "WHERE",
    "WHILE", "ZEROS_LIKE",
))  # fmt: skip
# They compile, and compute something else
GPU_WRONG = frozenset(("ONE_HOT",))
