"""What the large constants of a graph are called and hold: readers of a converted file know them by it. Loads nothing heavy."""

# What the names of substituted constants begin with; no layer can be called so
POSITION_BIAS, MASK = "position_bias ", "mask "
# Added to the scores of token pairs that must not see each other. Finite, and within float16's range: exp(-100) is 0 there too.
MASK_VALUE = -100.0
