"""Keras-surgeon's `identify`: which channels of a live model are worth keeping."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from kerassurgery_fn.arguments import as_model, takes
from kerassurgery_fn.pruning.apoz_scores import high_apoz

if TYPE_CHECKING:
    import keras
    import numpy as np

__all__ = ["get_apoz", "high_apoz"]


@takes(model=as_model)
def get_apoz(model: keras.Model, layer: Any, x_val: Any, node_indices: Iterable[int] | None = None) -> np.ndarray:
    """The Average Percentage of Zeros of each channel of a layer, as a fraction.

    It is read behind the first nonlinear activation from the layer on, the layer's own included; what lies between
    may be normalisation, pooling, dropout or a merge. Zeros are counted batch by batch, so memory is that of one.

    Args:
        model: a Sequential or Functional model; it is not changed.
        layer: a layer that makes channels, its name, or its path in nested models.
        x_val: anything that `model.predict` takes.
        node_indices: indices into `layer._inbound_nodes`, if the zeros of some calls of a shared layer are to be
            counted; by default those of all calls are, together.

    Returns:
        Zeros over values of each channel, 0 to 1, float64, shape (channels,).

    Raises:
        UnknownLayer, AmbiguousLayer, UnknownNode: the model has no such layer or node, or several.
        NoChannels: the layer makes no channels.
        BadData: data on which the model cannot be run.
    """
    from kerassurgery_fn.keras_surgeon.jobs import with_a_layer_of_its_own
    from kerassurgery_fn.keras_surgeon.layer_classes import at_hand
    from kerassurgery_fn.keras_surgeon.nodes import calls_of
    from kerassurgery_fn.measure.apoz_scoring import score_by_apoz

    calls = calls_of(model, layer, node_indices)
    with at_hand(model._flatten_layers()):
        if not calls.are_all:
            model, calls = with_a_layer_of_its_own(model, calls)
        return next(iter(score_by_apoz(model, x_val, layers=[calls.path]).values()))
