"""From a Keras model with tfvit layers to a TFLite file an app can ship. Importing this package imports nothing heavy."""
