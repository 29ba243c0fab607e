"""`capture`: reads a live Keras model into a snapshot."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

from kerassurgery_fn.arguments import as_model, takes
from kerassurgery_fn.graph import STATE_WEIGHTS, TRAINED, Record
from kerassurgery_fn.keras_io.compile_state import uncompiled
from kerassurgery_fn.keras_io.hidden_state import refuse_hidden_state
from kerassurgery_fn.keras_io.model_records import stable_record
from kerassurgery_fn.keras_io.optimizer_state import training_of, without_shared_memory
from kerassurgery_fn.keras_io.restoring import state_weights, trained_weights
from kerassurgery_fn.keras_io.sublayers import layers_of
from kerassurgery_fn.values.snapshot import Snapshot
from kerassurgery_fn.values.warning_origin import warn


@takes(model=as_model)
def capture(model: keras.Model) -> Snapshot:
    """The snapshot of a built Sequential or Functional model, with the state of its optimizer.

    The model is not changed, and later training does not change the snapshot.

    A registered subclass of Functional or Sequential keeps its class if its config is its graph. Other subclasses, such
    as a backbone whose `get_config` returns constructor arguments, are captured as plain Functional or Sequential
    models, and a warning names the methods that are lost (`train_step`, for example). The same holds for nested models.

    Raises:
        NotAGraph: the model is not built, or it is subclassed and has no graph.
        HiddenState: a layer has state that neither its config nor its weights contain.
    """
    record = _complete_record(model)
    weights = dict(_weights(model, record))
    return Snapshot(record, weights, training_of(model, record, weights))


def capture_graph(model: keras.Model) -> Snapshot:
    """The snapshot of a model without its compile config, which Keras may not be able to save."""
    with uncompiled(model):
        record = _complete_record(model)
    record.pop("compile_config", None)
    return Snapshot(record, dict(_weights(model, record)))


def _complete_record(model: keras.Model) -> dict[str, Any]:
    """The record of a model, checked for hidden state, with the indices of trained weights."""
    record = stable_record(model)
    for path, layer, layer_record in layers_of(model, record, ""):
        refuse_hidden_state(path, layer, layer_record)
    _add_trained_weights(model, record)
    _warn_of_shared_layers(model, record)
    _warn_of_weights_outside(model, record)
    return record


def _add_trained_weights(model: keras.Model, record: dict[str, Any]) -> None:
    """Adds to the records of layers which weights are trained, and which never are, where the config does not tell."""
    layer_record: Any
    for _, layer, layer_record in layers_of(model, record, ""):
        if (trained := trained_weights(layer, layer_record)) is not None:
            layer_record[TRAINED] = trained
        if (state := state_weights(layer, layer_record)) is not None:
            layer_record[STATE_WEIGHTS] = state


def _warn_of_shared_layers(model: keras.Model, record: Record) -> None:
    """Warns of layers that belong to two models: from a config, Keras creates a separate layer for each model."""
    paths: dict[int, str] = {}
    for path, layer, _ in layers_of(model, record, ""):
        first_path = paths.setdefault(id(layer), path)
        if layer.weights and first_path != path:
            warn(
                f"{first_path!r} and {path!r} are one layer in two models, and a config cannot express that: after "
                "rebuild() they are two layers with equal weights; to keep one layer, use it in one model only"
            )


def _warn_of_weights_outside(model: keras.Model, record: Record) -> None:
    """Warns of weights that belong to a model but to no layer of its graph, as a subclass may add them."""
    captured = {id(weight) for _, layer, _ in layers_of(model, record, "") for weight in layer.weights}
    if outside := [weight.path for weight in model.weights if id(weight) not in captured]:
        warn(
            f"model {model.name!r} has weights outside of its graph ({', '.join(outside[:4])}). They are not captured: "
            "after rebuild() they are missing, or have the initial values of the model's class; save them separately"
        )


def _weights(model: keras.Model, record: Record) -> Iterator[tuple[str, tuple[np.ndarray, ...]]]:
    for path, layer, _ in layers_of(model, record, ""):
        if layer.weights:
            yield path, tuple(map(without_shared_memory, layer.get_weights()))
