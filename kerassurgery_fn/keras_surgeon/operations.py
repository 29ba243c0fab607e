"""Keras-surgeon's `operations`: one operation on one layer of a live model.

Each gives a new Functional model, not compiled, and leaves its arguments as they were. For several operations at
once see `kerassurgery_fn.Surgeon`; for operations that are data, the edits that these stand on.
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
    """The model without a layer, or without some calls of it.

    Args:
        model: a Sequential or Functional model.
        layer: a layer of it, its name, or its path in nested models.
        node_indices: indices into `layer._inbound_nodes` of the calls that are meant; all of the model by default.
        copy: has no effect, a model is never changed.

    Raises:
        SurgeryError: the layer merges several tensors, or its output has another shape than its input and what comes
            after it cannot read that.
    """
    return operate(model, [_job(model, "delete_layer", layer, node_indices)])


@takes(model=as_model)
def insert_layer(
    model: keras.Model, layer: Any, new_layer: Any, *, node_indices: Nodes = None, copy: bool = True
) -> keras.Model:
    """The model with a new layer before a layer, or before some calls of it; others that read the same are left alone.

    Args:
        model: a Sequential or Functional model.
        layer: the layer before which the new one comes, or its name or path.
        new_layer: the new layer. If it is built its weights come along.
        node_indices: indices into `layer._inbound_nodes` of the calls that are meant; all of the model by default.
        copy: has no effect, a model is never changed.

    Raises:
        SurgeryError: `layer` merges several tensors, or cannot read what the new layer makes.
    """
    return operate(model, [_job(model, "insert_layer", layer, node_indices, new_layer=new_layer)])


@takes(model=as_model)
def replace_layer(
    model: keras.Model, layer: Any, new_layer: Any, *, node_indices: Nodes = None, copy: bool = True
) -> keras.Model:
    """The model with a new layer in the place of a layer, or of some calls of it.

    Args:
        model: a Sequential or Functional model.
        layer: the layer that is replaced, or its name or path; one that merges several tensors may be.
        new_layer: the new layer. If it is built its weights come along.
        node_indices: indices into `layer._inbound_nodes` of the calls that are meant; all of the model by default.
        copy: has no effect, a model is never changed.

    Raises:
        SurgeryError: what comes after it cannot read what the new layer makes.
    """
    return operate(model, [_job(model, "replace_layer", layer, node_indices, new_layer=new_layer)])


@takes(model=as_model)
def delete_channels(
    model: keras.Model, layer: Any, channels: Any, *, node_indices: Nodes = None, copy: bool | None = None
) -> keras.Model:
    """The model without some channels of a layer and all that depends on them.

    Layers that add, multiply or average with it lose the same channels. A layer that loses all of its channels goes,
    with the branch that it feeds, up to the first merge.

    Args:
        model: a Sequential or Functional model.
        layer: a layer of it, its name, or its path in nested models.
        channels: indices, negative ones from the end, or a boolean mask.
        node_indices: indices into `layer._inbound_nodes` of the calls that are meant; all of the model by default. If
            these are not all, they are given a layer of their own, `<name>_delete_channels`.
        copy: has no effect, a model is never changed.

    Raises:
        SurgeryError: there are no such channels, or something holds them; the message says what.
    """
    return operate(model, [_job(model, "delete_channels", layer, node_indices, channels=channels)])


def _job(model: keras.Model, kind: str, layer: Any, node_indices: Nodes, **given: Any) -> Job:
    return job_of(kind, calls_of(model, layer, node_indices), **given)
