"""Compares a recorded call with the live layer on data. A recording is only used if both compute the same outputs.

Code can behave differently for symbolic tensors, and numbers that it reads from a shape become constants of the
recording. So both run on random data, with several batch sizes and several sizes along axes of variable size.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import cycle, islice
from typing import Any, NamedTuple, Protocol

import keras
import numpy as np

from kerassurgery_fn.errors import NotAGraph
from kerassurgery_fn.keras_io.call_faults import described

OPEN_SIZES = (16, 8, 32, 64, 128, 256)  # the sizes to try for axes of variable size
BATCHES = (
    5,
    7,
)  # rarely a number of channels; Keras can add tensors wrongly if both are equal, see edits/steps/additions
RUNS = 3  # the number of comparisons
TOLERANCE = 1e-4  # relative to the largest value; the same operations in the same order only differ by rounding


class RecordableCall(Protocol):
    """A call of a layer on the inputs of a graph."""

    @property
    def inputs(self) -> Any:
        """The symbolic inputs, in the structure that the graph takes."""

    def arguments(self, values: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments of the layer for some values of the inputs, symbolic or not."""

    def prepared(self, values: Any) -> Any:
        """Values of the inputs with the masks that they have in the model."""


class Run(NamedTuple):
    """The results of one call of a layer.

    - `outputs`: the outputs of the call;
    - `loss`: the sum of the losses that the call adds;
    - `state`: the values of the layer's variables after the call, by `id(variable)`.
    """

    outputs: Any
    loss: Any
    state: dict[int, Any]


def refuse_other_values(
    layer: keras.layers.Layer, graph: keras.Model, call: RecordableCall, examples: Any = None
) -> bool:
    """Raises NotAGraph if a recorded graph computes different outputs than its layer. Returns whether both also compute
    the same in training.

    Args:
        layer: the live layer; its state is not changed.
        graph: the recorded graph.
        call: how the layer is called with the inputs of the graph.
        examples: the input arrays for the comparison; by default random arrays.
    """
    compared = list(islice(_comparable(layer, graph, call, examples), RUNS))
    if not compared:
        shapes = [tuple(tensor.shape) for tensor in graph.inputs]
        raise NotAGraph(
            f"{described(layer)} cannot be compared with its recording: for random inputs of the shapes {shapes}, it "
            f"{_failure(layer, graph, call)}; pass example arrays: capture(model, inputs=arrays)"
        )
    for inputs, live in compared:
        if not _repeats(live, _live_run(layer, call, inputs)):
            raise NotAGraph(f"{described(layer)} cannot be recorded: it gives different outputs for the same input")
        if (fault := _difference(live, _recorded_run(graph, call, inputs))) is not None:
            raise NotAGraph(
                f"{described(layer)} cannot be recorded: {fault}. Its call() depends on something that a graph does "
                "not have, such as the batch size, the values of tensors or a Python number that changes"
            )
    return _trains_alike(layer, graph, call, compared[0][0])


def _failure(layer: keras.layers.Layer, graph: keras.Model, call: RecordableCall) -> str:
    """Why a layer cannot be compared on random inputs, in words."""
    try:
        _live_run(layer, call, keras.tree.map_structure(_as_tensor, next(_random_inputs(graph))))
    except Exception as error:
        return f"raises {type(error).__name__}: {(str(error).strip().splitlines() or [''])[0][:200]}"
    return "computes NaN or infinity"


def _comparable(
    layer: keras.layers.Layer, graph: keras.Model, call: RecordableCall, examples: Any
) -> Iterator[tuple[Any, Run]]:
    """Inputs on which the layer can be run, and its results, of which most values are finite."""
    for arrays in [examples] if examples is not None else _random_inputs(graph):
        inputs = keras.tree.map_structure(_as_tensor, arrays)
        try:
            run = _live_run(layer, call, inputs)
        except Exception:  # the layer may run with another size or range of values
            continue
        if examples is not None or _is_mostly_finite(run.outputs):
            yield inputs, run


def _random_inputs(graph: keras.Model) -> Iterator[Any]:
    """Random inputs of a graph: first normally distributed numbers, then numbers between 0 and 2, which are also valid
    indices."""
    rng = np.random.default_rng(0)
    has_open_axes = any(size is None for tensor in graph.inputs for size in tensor.shape[1:])
    sizes = OPEN_SIZES if has_open_axes else OPEN_SIZES[: len(BATCHES)]
    for draw in (rng.standard_normal, lambda shape: rng.uniform(0, 2, shape)):
        for size, batch in zip(sizes, cycle(BATCHES), strict=False):
            draw_array = partial(_random_array, batch=batch, size=size, draw=draw, rng=rng)
            yield keras.tree.map_structure(draw_array, graph._inputs_struct)


def _random_array(spec: Any, *, batch: int, size: int, draw: Any, rng: np.random.Generator) -> np.ndarray:
    """A random array for an input. `size` is the size of axes of variable size. Integers are 0 or 1, because these are
    nearly always valid indices."""
    shape = (spec.shape[0] or batch, *(n or size for n in spec.shape[1:]))
    if "float" in spec.dtype:
        return draw(shape).astype("float32")
    return rng.integers(0, 2, shape).astype(spec.dtype)


def _run(layer: keras.layers.Layer, args: Any, kwargs: Any, training: bool) -> Run:
    """One call of a layer that does not change its variables."""
    with keras.StatelessScope(collect_losses=True) as scope:
        outputs = layer(*args, **{**kwargs, "training": training})
        state = {id(variable): variable.value for variable in layer.non_trainable_variables}
    losses = [keras.ops.cast(keras.ops.sum(loss), "float32") for loss in scope.losses]
    return Run(outputs, sum(losses, keras.ops.zeros(())), state)


def _live_run(layer: keras.layers.Layer, call: RecordableCall, inputs: Any, training: bool = False) -> Run:
    return _run(layer, *call.arguments(call.prepared(inputs)), training)


def _recorded_run(graph: keras.Model, call: RecordableCall, inputs: Any, training: bool = False) -> Run | Exception:
    """The results of a graph, or the error that it raises."""
    try:
        return _run(graph, (call.prepared(inputs),), {}, training)
    except Exception as error:
        return error


def _as_tensor(value: Any) -> Any:
    return keras.ops.convert_to_tensor(value) if isinstance(value, np.ndarray) else value


def _trains_alike(layer: keras.layers.Layer, graph: keras.Model, call: RecordableCall, inputs: Any) -> bool:
    """Whether a layer and its recorded graph compute the same in training: outputs with dropout, losses, updates of
    statistics."""
    try:
        live = _live_run(layer, call, inputs, training=True)
    except Exception:  # code that needs other inputs in training cannot be compared
        return False
    recorded = _recorded_run(graph, call, inputs, training=True)
    if _difference(live, recorded) is not None or isinstance(recorded, Exception):
        return False
    if not _are_close(live.loss, recorded.loss):
        return False
    return all(_are_close(live.state[key], recorded.state[key]) for key in live.state.keys() & recorded.state.keys())


def _repeats(first: Run, second: Run) -> bool:
    return _difference(first, second) is None


def _difference(live: Run, recorded: Run | Exception) -> str | None:
    """How the outputs of two runs differ, in words; None if they are equal."""
    if isinstance(recorded, Exception):
        first_line = (str(recorded).strip().splitlines() or [""])[0]
        return f"the recorded graph cannot be run ({type(recorded).__name__}: {first_line[:200]})"
    expected, actual = (keras.tree.flatten(run.outputs) for run in (live, recorded))
    if len(expected) != len(actual):
        return f"it outputs {len(expected)} tensors, and {len(actual)} when recorded"
    for index, (a, b) in enumerate(zip(expected, actual, strict=True)):
        if tuple(a.shape) != tuple(b.shape):
            return f"output {index} has the shape {tuple(a.shape)}, and {tuple(b.shape)} when recorded"
        if not _are_close(a, b):
            return f"output {index} has other values when recorded"
    return None


def _are_close(a: Any, b: Any) -> bool:
    a, b = _as_array(a), _as_array(b)
    if a.dtype.kind not in "fc":
        return bool((a == b).all())
    largest = np.abs(a[np.isfinite(a)]).max(initial=1e-6)
    return bool(np.allclose(a, b, rtol=0, atol=TOLERANCE * largest, equal_nan=True))


def _as_array(tensor: Any) -> np.ndarray:
    array = keras.ops.convert_to_numpy(tensor)
    return array if array.dtype.kind in "fciub" and array.dtype.itemsize > 2 else array.astype("float64")


def _is_mostly_finite(outputs: Any) -> bool:
    arrays = [_as_array(output) for output in keras.tree.flatten(outputs)]
    return all(np.isfinite(array).mean() > 0.5 for array in arrays if array.size)
