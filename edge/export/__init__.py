"""From a source to a float flatbuffer: the Keras model, its rewrites, the converter."""
