"""Asks Keras how the classes of live layers treat masks."""

from __future__ import annotations

from kerassurgery_fn.graph import Record
from kerassurgery_fn.keras_io.layer_conversion import revive_layer


def passes_masks_on(record: Record) -> bool:
    """Whether the output of a layer has the mask of its input, according to Keras; False if Keras cannot tell."""
    try:
        from keras.src import utils

        layer = revive_layer(record)
        return bool(layer.supports_masking and utils.is_default(layer.compute_mask))
    except Exception:
        return False


def computes_masks(record: Record) -> bool:
    """Whether the class of a layer overrides `compute_mask`, according to Keras; False if Keras cannot tell."""
    try:
        from keras.src import utils

        return not utils.is_default(revive_layer(record).compute_mask)
    except Exception:
        return False
