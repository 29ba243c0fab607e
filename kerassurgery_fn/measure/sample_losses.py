"""The loss of a model as a sum over samples, so that it does not depend on how data is split into batches.

The loss of a batch is the mean over its samples, as Keras computes it by default; times the number of samples, it is a
sum to which each sample contributes on its own. Therefore the losses have the reduction `sum_over_batch_size`, whatever
they have in `fit`. Penalties of regularizers, which do not depend on data, are left out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
from keras.src.backend import compute_output_spec
from keras.src.trainers.compile_utils import CompileLoss

from kerassurgery_fn.errors import BadValue, MissingData
from kerassurgery_fn.keras_io.reviving import root_cause
from kerassurgery_fn.values.frozen import thaw
from kerassurgery_fn.values.snapshot import Snapshot


@dataclass(frozen=True)
class LossState:
    """A loss object as its class and attributes, which can be sent to a worker: configs of losses are not complete."""

    kind: type[keras.losses.Loss]
    attributes: dict[str, Any]

    def revived(self) -> keras.losses.Loss:
        """The loss object."""
        loss = object.__new__(self.kind)
        vars(loss).update(self.attributes)
        return loss


@dataclass(frozen=True)
class Objective:
    """What a model is trained for: losses by output, and their weights, in the forms that `compile` takes."""

    losses: Any
    weights: Any = None


def objective_of(model: keras.Model | Snapshot, loss: Any = None) -> Objective:
    """The loss from the caller, or the loss of a compiled model.

    Raises:
        BadValue: Keras does not know the loss.
        MissingData: there is none.
    """
    losses, weights = (loss, None) if loss is not None else _compiled(model)
    if losses is None:
        raise MissingData(f"{model.name!r} has no loss, and the criterion needs one: compile the model, or give loss=")
    return Objective(keras.tree.map_structure(_as_state, losses), weights)


def loss_of_samples(objective: Objective, model: keras.Model, y: Any) -> Callable[[Any, Any, Any], Any]:
    """A function from (targets, outputs, sample weights) to the sum of the losses of the samples, a scalar.

    Args:
        objective: the losses.
        model: the live model.
        y: the targets of a batch, for their structure.
    """
    losses = keras.tree.map_structure(_revived, objective.losses)
    mean_loss = CompileLoss(losses, objective.weights, output_names=getattr(model, "output_names", None))
    # Keras builds the loss when it is first called; in the graph of TensorFlow it could not create its variables.
    compute_output_spec(mean_loss, keras.tree.map_structure(_symbol, y), output_of(model))

    def total(y: Any, outputs: Any, weights: Any) -> Any:
        samples = keras.ops.shape(keras.tree.flatten(outputs)[0])[0]
        return mean_loss(y, outputs, weights) * keras.ops.cast(samples, "float32")

    return total


def _compiled(model: keras.Model | Snapshot) -> tuple[Any, Any]:
    """The losses of a compiled model and their weights; None if it has none."""
    if isinstance(model, Snapshot):
        config = thaw(model.record.get("compile_config")) or {}
        try:
            loss = keras.saving.deserialize_keras_object(config.get("loss"))
        except Exception as error:  # a lambda, or a class or function that Keras does not know
            raise MissingData(
                f"the loss of {model.name!r} cannot be created: {root_cause(error)}; give loss=, or decorate it with "
                "@keras.saving.register_keras_serializable()"
            ) from error
        return loss, config.get("loss_weights")
    compiled = getattr(model, "_compile_loss", None)
    return (None, None) if compiled is None else (compiled._user_loss, compiled._user_loss_weights)


def output_of(model: keras.Model) -> Any:
    """The symbolic outputs of a model, in their structure."""
    return model.outputs[0] if isinstance(model, keras.Sequential) else model.output


def _symbol(array: Any) -> keras.KerasTensor:
    return keras.KerasTensor(array.shape, keras.backend.standardize_dtype(array.dtype))


def _revived(loss: Any) -> Any:
    return loss.revived() if isinstance(loss, LossState) else loss


def _as_state(loss: Any) -> Any:
    if isinstance(loss, keras.losses.Loss):
        return LossState(type(loss), {**vars(loss), "reduction": "sum_over_batch_size"})
    if isinstance(loss, str) and loss not in ("crossentropy", "ce"):  # Keras reads these from the shape of the targets
        try:
            keras.losses.get(loss)
        except ValueError as error:
            raise BadValue(f"loss: Keras has no loss {loss!r}; see keras.losses") from error
    if loss is None or isinstance(loss, str) or callable(loss):
        return loss
    raise BadValue(f"loss: expected a loss of Keras, its name or a function, got {loss!r}")
