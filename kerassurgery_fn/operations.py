"""The module `operations` of Keras-surgeon: functions on a layer of a live model."""

from kerassurgery_fn.keras_surgeon.layer_operations import delete_channels, delete_layer, insert_layer, replace_layer

__all__ = ["delete_channels", "delete_layer", "insert_layer", "replace_layer"]
