"""`get_apoz`, from Keras-surgeon's module `identify`: the APoZ of the channels of a layer."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from kerassurgery_fn.arguments import as_model, takes

if TYPE_CHECKING:
    import keras
    import numpy as np


@takes(model=as_model)
def get_apoz(model: keras.Model, layer: Any, x_val: Any, node_indices: Iterable[int] | None = None) -> np.ndarray:
    """The Average Percentage of Zeros (APoZ) of each channel of a layer, as a fraction.

    Zeros are counted after the layer's own activation, or after the first nonlinear activation that follows the layer.
    Normalisation, pooling, dropout and merges can be in between. Only one batch is in memory at a time.

    Args:
        model: a Sequential or Functional model; it is not changed.
        layer: a layer with channels, its name, or its path in nested models.
        x_val: data in any form that `model.predict` accepts.
        node_indices: indices into `layer._inbound_nodes`: the calls of a shared layer to count; by default all.

    Returns:
        For each channel the fraction of zeros, 0 to 1, float64, shape (channels,).

    Raises:
        UnknownLayer, AmbiguousLayer, UnknownNode: the model has no such layer or node, or several such layers.
        NoChannels: the layer has no channels.
        BadData: the model cannot be run on the data.
    """
    from kerassurgery_fn.keras_io.own_objects import revivable
    from kerassurgery_fn.keras_surgeon.jobs import with_separate_calls
    from kerassurgery_fn.keras_surgeon.nodes import calls_of
    from kerassurgery_fn.measure.apoz_scoring import score_by_apoz

    calls = calls_of(model, layer, node_indices)
    with revivable(model._flatten_layers()):
        if not calls.are_all:
            model, calls = with_separate_calls(model, calls)
        scores = score_by_apoz(model, x_val, layers=[calls.path])
        return next(iter(scores.values()))
