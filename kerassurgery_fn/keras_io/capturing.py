"""`capture`: reads a live Keras model into a snapshot."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np

from kerassurgery_fn.arguments import as_model, takes
from kerassurgery_fn.graph import STATE_WEIGHTS, TRAINED, Record, selectors
from kerassurgery_fn.keras_io.coded_models import graph_of
from kerassurgery_fn.keras_io.compile_state import uncompiled
from kerassurgery_fn.keras_io.expanding import Selection
from kerassurgery_fn.keras_io.hidden_state import refuse_hidden_state
from kerassurgery_fn.keras_io.measuring import add_measured
from kerassurgery_fn.keras_io.model_records import stable_record
from kerassurgery_fn.keras_io.optimizer_state import training_of
from kerassurgery_fn.keras_io.restoring import state_weights, trained_weights
from kerassurgery_fn.keras_io.saved_groups import add_weight_groups
from kerassurgery_fn.keras_io.sublayers import PathLayerRecord, layers_of
from kerassurgery_fn.keras_io.weight_arrays import arrays_of
from kerassurgery_fn.values.snapshot import Snapshot
from kerassurgery_fn.values.warning_origin import warn


def as_selection(value: Any, name: str) -> Selection:
    """The argument `expand`: True, or selectors as a tuple."""
    if isinstance(value, bool):
        return value
    return () if value is None else selectors(value)


def as_patterns(value: Any, name: str) -> tuple[str, ...]:
    """Selectors as a tuple."""
    return () if value is None else selectors(value)


@takes(model=as_model, expand=as_selection, measure=as_patterns)
def capture(model: keras.Model, *, inputs: Any = None, expand: Any = (), measure: Any = ()) -> Snapshot:
    """The snapshot of a built model, with the state of its optimizer.

    The model is not changed, and later training does not change the snapshot.

    A **subclassed model** computes by Python code. Its `call` is recorded on symbolic inputs. The recorded graph is
    used if it computes the same as the model on random data, for several batch sizes. `rebuild` then returns a
    Functional model with the same names and weights, but without the class and its methods. A warning `ClassNotKept`
    says so.

    A **layer that consists of layers**, such as your own class of transformer blocks, is a single layer for the
    library, which does not know its code. With `expand`, the `call` of such a layer is recorded in the same way. The
    layer becomes a nested Functional model of the same name, so `transformer_layer_0/self_attention_layer` is then an
    ordinary layer. The `call` must only use weights of the layers that it calls.

    Layers without a rule are **measured**, and the results are stored in their records as "measured": custom activation
    functions that are elementwise, classes derived from a class of Keras that compute the same as their parent, and,
    with `measure`, layers that compute each channel separately.

    A registered subclass of Functional or Sequential keeps its class if its config is its graph. Other subclasses, such
    as a backbone whose `get_config` returns constructor arguments, are captured as plain Functional or Sequential
    models, and a warning names the methods that are lost (`train_step`, for example). The same holds for nested models.

    Args:
        model: a Sequential, Functional or subclassed model.
        inputs: the inputs of a subclassed model, in the structure with which it is called: shapes with the batch axis
            first, such as (None, 32, 32, 3), `keras.Input` tensors, or example arrays, which are then used for the
            comparison. If `call` has several arguments, pass a dict by their names. By default, the shapes for which
            the model was built. For a Functional model with `expand`, other shapes for its inputs: code that computes
            with sizes needs fixed sizes, and the snapshot is then only valid for these sizes.
        expand: selectors of layers to expand, such as "transformer_layer_*" or "*@TransformerEncoder", or True for all
            layers that can be expanded; a warning then names the layers that cannot.
        measure: selectors of layers without a rule, such as "*@LearnableAffine", or "*". Copies of them are run on
            random data, as by `probe_rule`. If each output channel only depends on one input channel, channels can be
            cut. If a layer mixes its channels but treats them alike, as a normalisation does, a cut is inexact. Other
            layers stay opaque.

    Raises:
        NotAGraph: the model is not built, or a call() cannot be recorded; the message has the place in the code.
        UnknownLayer: `expand` selects no layer that consists of layers, or `measure` selects no layer without a rule.
        NotIndependent: a layer that `measure` names does not treat its channels alike.
        WrongShape: `inputs` contains something other than shapes, tensors and arrays.
        HiddenState: a layer has state that neither its config nor its weights contain.
    """
    with graph_of(model, inputs, expand) as graph:
        record = complete_record(graph, is_recorded=graph is not model, measure=measure)
        weights = dict(_weights(graph, record))
        return Snapshot(record, weights, training_of(graph, record, weights))


def capture_graph(model: keras.Model) -> Snapshot:
    """The snapshot of a model without its compile config, because Keras cannot save every compile config."""
    with uncompiled(model):
        record = complete_record(model)
    record.pop("compile_config", None)
    return Snapshot(record, dict(_weights(model, record)))


def complete_record(model: keras.Model, is_recorded: bool = False, measure: tuple[str, ...] = ()) -> dict[str, Any]:
    """The record of a model with the indices of trained weights and the results of measurements. Layers are checked for
    hidden state."""
    record = stable_record(model, is_recorded=is_recorded)
    layers = list(layers_of(model, record, ""))
    for path, layer, layer_record in layers:
        refuse_hidden_state(path, layer, layer_record)
    _add_trained_weights(layers)
    add_measured(model, layers, measure)
    _warn_of_shared_layers(layers)
    _warn_of_weights_outside(model, layers)
    return record


def _add_trained_weights(layers: Sequence[PathLayerRecord]) -> None:
    """Adds to the records of layers which weights are trained, and which never are, if the config does not say it."""
    layer_record: Any
    for _, layer, layer_record in layers:
        if (trained := trained_weights(layer, layer_record)) is not None:
            layer_record[TRAINED] = trained
        if (state := state_weights(layer, layer_record)) is not None:
            layer_record[STATE_WEIGHTS] = state
        add_weight_groups(layer, layer_record)


def _warn_of_shared_layers(layers: Sequence[PathLayerRecord]) -> None:
    """Warns of layers that belong to two models: from a config, Keras creates a separate layer for each model."""
    paths: dict[int, str] = {}
    for path, layer, _ in layers:
        first_path = paths.setdefault(id(layer), path)
        if layer.weights and first_path != path:
            warn(
                f"{first_path!r} and {path!r} are one layer in two models, and a config cannot express that: after "
                "rebuild() they are two layers with equal weights; to keep one layer, use it in one model only"
            )


def _warn_of_weights_outside(model: keras.Model, layers: Sequence[PathLayerRecord]) -> None:
    """Warns of weights that belong to a model but not to a layer of its graph. A subclass can add such weights."""
    captured = {id(weight) for _, layer, _ in layers for weight in layer.weights}
    if outside := [weight.path for weight in model.weights if id(weight) not in captured]:
        warn(
            f"model {model.name!r} has weights outside of its graph ({', '.join(outside[:4])}). They are not captured: "
            "after rebuild() they are missing, or have the initial values of the model's class; save them separately"
        )


def _weights(model: keras.Model, record: Record) -> Iterator[tuple[str, tuple[np.ndarray, ...]]]:
    for path, layer, _ in layers_of(model, record, ""):
        if weights := layer.weights:
            yield path, arrays_of(weights)
