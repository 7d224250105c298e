"""From a float flatbuffer to a quantized one: recipes, ranges, rounding, constants, repair."""
