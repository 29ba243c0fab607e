"""Keras-surgeon's `operations`, under the name that it has there."""

from kerassurgery_fn.keras_surgeon.operations import delete_channels, delete_layer, insert_layer, replace_layer

__all__ = ["delete_channels", "delete_layer", "insert_layer", "replace_layer"]
