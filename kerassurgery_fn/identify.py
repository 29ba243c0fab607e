"""The module `identify` of Keras-surgeon: which channels of a live model can be deleted."""

from kerassurgery_fn.keras_surgeon.layer_apoz import get_apoz
from kerassurgery_fn.pruning.apoz_scores import high_apoz

__all__ = ["get_apoz", "high_apoz"]
