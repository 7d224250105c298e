"""A file against its Keras model on many images."""
