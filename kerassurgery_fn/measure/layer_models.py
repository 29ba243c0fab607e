"""Small models of single layers of a model, for measurements."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import keras
from toolz import unique

from kerassurgery_fn.analysis.channel_flow import Flow, analyse
from kerassurgery_fn.analysis.input_shapes import Shapes, with_shapes
from kerassurgery_fn.channels import size
from kerassurgery_fn.errors import SurgeryError, WrongShape
from kerassurgery_fn.graph import Call, Ref, refs
from kerassurgery_fn.keras_io.rebuilding import rebuild
from kerassurgery_fn.measure.graph_execution import graph_runner, operations_by_path, revived_arguments, with_tensors
from kerassurgery_fn.pruning.layer_work import LayerWork, calls_of, layer_work
from kerassurgery_fn.values.snapshot import Snapshot


class LayerModels:
    """Makes small models of the layers of a snapshot, with its weights.

    - `works`: the work of each call of a layer, and the call.
    """

    def __init__(self, snapshot: Snapshot, shapes: Shapes | None) -> None:
        self.snapshot = snapshot if shapes is None else with_shapes(snapshot, shapes)
        self.flow: Flow = analyse(self.snapshot)
        self.calls = {(call.path, call.node): call for call in calls_of(self.flow)}
        self.works: list[tuple[LayerWork, Call]] = [*zip(layer_work(self.snapshot), self.calls.values(), strict=True)]

    @cached_property
    def _model(self) -> keras.Model:
        return rebuild(self.snapshot)

    @cached_property
    def _operations(self) -> dict[str, Any]:
        return dict(operations_by_path(self._model, self.snapshot.record, ""))

    @cached_property
    def _tensors(self) -> dict[Ref, Any]:
        """All tensors of the model for one sample, as symbols."""
        inputs = [
            keras.Input(batch_shape=self._input_shape(ref), dtype=tensor.dtype)
            for ref, tensor in zip(self.flow.trace.inputs, self._model.inputs, strict=True)
        ]
        return graph_runner(self._model, self.snapshot, self.flow.trace)(inputs, False)

    def _input_shape(self, ref: Ref) -> tuple[int, ...]:
        batch, *sizes = map(size, self.flow.tensors[ref] or ())
        if None in sizes:
            raise WrongShape(f"input {ref.path!r} has a variable size, {tuple(sizes)}: give shapes=, see cost")
        return (batch or 1, *sizes)  # type: ignore[arg-type]

    def model(self, calls: Sequence[Call]) -> keras.Model:
        """The model of one call of a layer, or of several of which each reads the outputs of those before it.

        Raises:
            SurgeryError: a size of a tensor is not known.
        """
        needed = unique(ref for call in calls for ref in refs([call.args, call.kwargs]))
        inner = {(call.path, call.node) for call in calls}
        inputs = {ref: self._input(ref) for ref in needed if (ref.path, ref.node) not in inner}
        tensors, outputs = dict(inputs), []
        for call in calls:
            args, kwargs = with_tensors(revived_arguments([call.args, call.kwargs], self.snapshot), tensors)
            kwargs |= {"training": False} if "training" in kwargs else {}
            outputs = keras.tree.flatten(self._operations[call.path](*args, **kwargs))
            tensors |= {Ref(call.path, call.node, index): tensor for index, tensor in enumerate(outputs)}
        return keras.Model([*inputs.values()], outputs)

    def _input(self, ref: Ref) -> Any:
        tensor = self._tensors[ref]
        if None in tensor.shape:
            raise SurgeryError(f"the shape {tuple(tensor.shape)} of the output of {ref.path!r} has a variable size")
        return keras.Input(batch_shape=tensor.shape, dtype=tensor.dtype)
