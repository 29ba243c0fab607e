"""Reads and creates live Keras models: capture, rebuild, and conversion of layers into values."""
