"""The functions of Keras-surgeon's module `operations`: one operation on a layer of a live model.

Each function returns a new Functional model, not compiled, and does not change its arguments. Use
`kerassurgery_fn.Surgeon` for several operations at once, and edits such as `kerassurgery_fn.DeleteChannels` for
operations that can be saved and replayed.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from kerassurgery_fn.arguments import as_model, takes
from kerassurgery_fn.keras_surgeon.jobs import Job, job_of, operate
from kerassurgery_fn.keras_surgeon.nodes import calls_of

if TYPE_CHECKING:
    import keras

__all__ = ["delete_channels", "delete_layer", "insert_layer", "replace_layer"]

Nodes = Iterable[int] | None


@takes(model=as_model)
def delete_layer(model: keras.Model, layer: Any, *, node_indices: Nodes = None, copy: bool = True) -> keras.Model:
    """The model without a layer, or without some calls of a shared layer.

    Args:
        model: a Sequential or Functional model.
        layer: a layer of the model, its name, or its path in nested models.
        node_indices: indices into `layer._inbound_nodes`: the calls to change; by default all calls in the model.
        copy: has no effect: the model is never changed.

    Raises:
        SurgeryError: the layer merges several tensors, or the layers after it cannot take the shape of its input.
    """
    return operate(model, [_job(model, "delete_layer", layer, node_indices)])


@takes(model=as_model)
def insert_layer(
    model: keras.Model, layer: Any, new_layer: Any, *, node_indices: Nodes = None, copy: bool = True
) -> keras.Model:
    """The model with a new layer before a layer, or before some calls of it. Other consumers are unaffected.

    Args:
        model: a Sequential or Functional model.
        layer: the layer before which the new layer is inserted, its name or its path.
        new_layer: the new layer; its weights are copied if it is built.
        node_indices: indices into `layer._inbound_nodes`: the calls to change; by default all calls in the model.
        copy: has no effect: the model is never changed.

    Raises:
        SurgeryError: `layer` merges several tensors, or cannot take the output of the new layer.
    """
    return operate(model, [_job(model, "insert_layer", layer, node_indices, new_layer=new_layer)])


@takes(model=as_model)
def replace_layer(
    model: keras.Model, layer: Any, new_layer: Any, *, node_indices: Nodes = None, copy: bool = True
) -> keras.Model:
    """The model with a new layer in place of a layer, or of some calls of it.

    Args:
        model: a Sequential or Functional model.
        layer: the layer to replace, its name or its path; it can merge several tensors.
        new_layer: the new layer; its weights are copied if it is built.
        node_indices: indices into `layer._inbound_nodes`: the calls to change; by default all calls in the model.
        copy: has no effect: the model is never changed.

    Raises:
        SurgeryError: the layers after it cannot take the output of the new layer.
    """
    return operate(model, [_job(model, "replace_layer", layer, node_indices, new_layer=new_layer)])


@takes(model=as_model)
def delete_channels(
    model: keras.Model, layer: Any, channels: Any, *, node_indices: Nodes = None, copy: bool | None = None
) -> keras.Model:
    """The model without some channels of a layer, and without everything that depends on them.

    Layers whose outputs are added to, multiplied by or averaged with this output lose the same channels. If a layer
    loses all its channels, its branch is removed up to the next merge.

    Args:
        model: a Sequential or Functional model.
        layer: a layer of the model, its name, or its path in nested models.
        channels: indices (negative ones count from the end), or a boolean mask.
        node_indices: indices into `layer._inbound_nodes`: the calls to change; by default all calls in the model. If
            the layer has other calls, these get a new layer, `<name>_delete_channels`.
        copy: has no effect: the model is never changed.

    Raises:
        SurgeryError: a channel is out of range, or cannot be cut; the message says why.
    """
    return operate(model, [_job(model, "delete_channels", layer, node_indices, channels=channels)])


def _job(model: keras.Model, kind: str, layer: Any, node_indices: Nodes, **argument: Any) -> Job:
    return job_of(kind, calls_of(model, layer, node_indices), **argument)
