"""The door to running models: what their channels do on data."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import reduce
from operator import add
from typing import Any

import keras
import numpy as np

from kerassurgery_fn.analysis.channel_flow import Flow, analyse
from kerassurgery_fn.arguments import as_count, as_function, as_model, optional, takes
from kerassurgery_fn.channels import FIXED, as_map, size
from kerassurgery_fn.errors import BadData, NoChannels
from kerassurgery_fn.graph import (
    Constant,
    Graph,
    Record,
    Ref,
    is_input,
    is_model,
    join_path,
    leaves,
    map_leaves,
    name_of,
    selectors,
)
from kerassurgery_fn.keras_io.capturing import capture_graph
from kerassurgery_fn.keras_io.rebuilding import at_root, rebuild
from kerassurgery_fn.measure.batches import batches, fitting, length
from kerassurgery_fn.pruning.activation_views import View, address, views
from kerassurgery_fn.pruning.apoz_scores import ZeroCounts, fewest
from kerassurgery_fn.rules.layer import Producer
from kerassurgery_fn.values.frozen import get_in, thaw
from kerassurgery_fn.values.snapshot import Snapshot
from kerassurgery_fn.values.warning_origin import warn

Place = tuple[Ref, int]
Counts = dict[Place, ZeroCounts]


def as_model_or_snapshot(value: Any, name: str = "model") -> Any:
    """A Keras model or a snapshot itself; NotAGraph is raised for anything else."""
    return value if isinstance(value, Snapshot) else as_model(value, name)


@takes(model=as_model_or_snapshot, batch_size=as_count, steps=optional(as_count), progress=optional(as_function))
def score_by_apoz(
    model: keras.Model | Snapshot,
    data: Any,
    *,
    layers: Any = None,
    batch_size: int = 32,
    steps: int | None = None,
    progress: Callable[..., Iterable[Any]] | None = None,
) -> dict[str, np.ndarray]:
    """The Average Percentage of Zeros of each channel of every layer that makes channels, in one pass over the data.

    It is the fraction of exact zeros over the batch and all axes but the channels', read behind the first nonlinear
    activation from the layer on; `scores.views` says where that is. Calls of a shared layer are pooled; where the way
    forks, the branch with the fewest zeros counts. High values mark channels that can go (`scores.high_apoz`).
    Zeros are counted as the model runs, so memory is that of one batch, however much data there is.

    Behind an activation that is never exactly zero (gelu, tanh, linear) the score of all channels is 0.0 and says
    nothing of them: where no zero is seen of a layer that is named, or that has channels to cut, there is a warning.

    Args:
        model: a Keras model, which is not changed, or a snapshot.
        data: an array, or a list or dict of arrays for several inputs; a `tf.data.Dataset`, a `keras.utils.PyDataset`
            or any other iterable of batches, each as in `fit`: `x`, `(x,)`, `(x, y)` or `(x, y, weights)`. A list of
            arrays means several inputs, a list of tuples batches.
        layers: a layer, its name, path or address (`attention:num_heads`), a pattern, or several of these; by default
            all layers whose channels can be seen on a tensor.
        batch_size: samples a batch, where data is arrays.
        steps: the most batches to read; needed where the data never ends.
        progress: what the batches are to be read through, as `tqdm.tqdm` or `rich.progress.track`; it is called with
            the batches and their number (`total=`, None if unknown).

    Returns:
        Address of the channels (the layer's path) -> APoZ, a fraction from 0 to 1, float64, shape (channels,).

    Raises:
        BadData: no batch, an endless dataset without `steps`, NaN, or arrays that do not fit the model's inputs.
        UnknownLayer, AmbiguousLayer, NoChannels: a name that is of no layer, of several, of one without channels.
        NotAGraph: a subclassed model.

    Source:
        Hu et al. 2016, Network Trimming, arXiv:1607.03250.
    """
    snapshot = model if isinstance(model, Snapshot) else graph_of(model)
    flow = analyse(snapshot)
    watched = _watched(flow, layers)
    places = sorted({(view.tensor, view.axis) for calls in watched.values() for seen in calls for view in seen})
    if not watched:
        return {}
    live = rebuild(snapshot) if isinstance(model, Snapshot) else model
    read = batches(data, batch_size, steps)
    total = length(data, batch_size, steps)
    counts = _counted(_Counter(live, snapshot, flow.graph, places), progress(read, total=total) if progress else read)
    scores = {name: _pooled(calls, counts, size(flow.producer(name).axis) or 0).apoz for name, calls in watched.items()}
    _warn_of_nothing(
        [name for name, apoz in scores.items() if not apoz.any() and (layers is not None or _is_free(flow, name))]
    )
    return scores


def graph_of(model: keras.Model) -> Snapshot:
    """The snapshot of a live model that runs itself: there is no warning of what a rebuilt model would lack."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return capture_graph(model)


def _warn_of_nothing(names: list[str]) -> None:
    """Warns of layers whose channels were never zero, so that their scores are alike."""
    if names:
        warn(
            f"no value of {', '.join(map(repr, names))} was exactly zero, so that the APoZ of all channels there is "
            "0.0 and tells nothing of them: an activation such as gelu, tanh or linear makes no zeros. Name layers "
            "before a ReLU as layers=, or score these in another way"
        )


def _is_free(flow: Flow, name: str) -> bool:
    """Whether any channel of a layer can be cut."""
    ids = flow.solution.resolve(as_map(flow.producer(name).axis))
    return bool((~flow.solution.pinned()[ids] & (ids != FIXED)).any())


def _watched(flow: Flow, layers: Any) -> dict[str, list[list[View]]]:
    """Address of each layer's channels -> where they are seen, call by call."""
    if layers is None:
        seen = {address(flow, producer): views(flow, producer) for producer in flow.producers.values()}
        return {name: calls for name, calls in seen.items() if calls}
    named = [producer for selector in selectors(layers) for producer in flow.producers_at(selector)]
    wanted: dict[str, Producer] = {address(flow, producer): producer for producer in named}
    seen = {name: views(flow, producer) for name, producer in wanted.items()}
    for name, calls in seen.items():
        if not calls:
            raise NoChannels(
                f"the channels {name!r} stand on no tensor that the layer gives out, so their zeros cannot be counted; "
                "score the channels that feed the layer, or leave it out of `layers`"
            )
    return seen


def _counted(counter: _Counter, batches: Iterable[Any]) -> Counts:
    """The counts of all batches together, which are all that is kept of a batch."""
    counts: Counts = {}
    for batch in batches:
        counts = {place: counts[place] + one if counts else one for place, one in counter.count(batch).items()}
    if not counts:
        raise BadData("the data gave no batch, so that nothing can be scored; is it an iterator that is used up?")
    return counts


def _pooled(calls: list[list[View]], counts: Counts, channels: int) -> ZeroCounts:
    """The counts of one layer's channels: of each call's views the one with the fewest zeros, all calls together."""
    return reduce(
        add, (fewest([counts[view.tensor, view.axis].of(view.starts, channels) for view in seen]) for seen in calls)
    )


class _Counter(keras.Model):
    """A model run call by call, tensors inside nested models at hand, of which only counts of zeros come out."""

    def __init__(self, model: keras.Model, snapshot: Snapshot, graph: Graph, places: list[Place]) -> None:
        super().__init__(name="counter")
        self.source, self.places = model, places
        given = model.inputs[0] if isinstance(model, keras.Sequential) else model.input
        self.entry = keras.Model(given, given)
        self.run = _runner(model, snapshot, graph)
        self.jit_compile = keras.backend.backend() == "jax"  # where compiling takes longer than running, do not

    def build(self, *_: Any) -> None:
        """Nothing: the model is built already."""

    def call(self, x: Any, training: bool = False) -> tuple[list[Any], list[tuple[Any, Any, Any]]]:
        """For every input whether it has NaN in it; for every place zeros of each channel, shape (channels,), values a
        channel, and whether there is NaN among them."""
        inputs = keras.tree.flatten(self.entry(x))
        tensors = self.run(inputs, training)
        return list(map(_has_nan, inputs)), [_zeros(tensors[ref], axis) for ref, axis in self.places]

    def count(self, batch: Any) -> Counts:
        """The counts of one batch."""
        batch = fitting(batch, self.source)
        try:
            broken, found = self.predict_on_batch(batch)
        except Exception as error:
            shapes = ", ".join(str(tuple(array.shape)) for array in keras.tree.flatten(batch))
            raise BadData(
                f"model {self.source.name!r} cannot be run on a batch of arrays of shapes {shapes}: {at_root(error)}"
            ) from error
        self.refuse_nan(broken, [nan for _, _, nan in found])
        return {
            place: ZeroCounts(zeros.astype(np.int64), np.full(zeros.shape, values, np.int64))
            for place, (zeros, values, _) in zip(self.places, found, strict=True)
        }

    def refuse_nan(self, inputs: Iterable[Any], places: Iterable[Any]) -> None:
        """Raises BadData where a batch has NaN in it, or a model makes NaN of it."""
        for tensor, broken in zip(keras.tree.flatten(self.entry.input), inputs, strict=True):
            if broken:
                raise BadData(f"the data for input {tensor.name!r} has NaN in it, which is neither zero nor a value")
        for (ref, _), broken in zip(self.places, places, strict=True):
            if broken:
                raise BadData(f"layer {ref.path!r} makes NaN of the data, so that its zeros cannot be counted")


def _has_nan(tensor: Any) -> Any:
    return keras.ops.any(keras.ops.isnan(keras.ops.cast(tensor, "float32"))) if _is_float(tensor) else False


def _is_float(tensor: Any) -> bool:
    return "float" in keras.backend.standardize_dtype(tensor.dtype)


def _zeros(tensor: Any, axis: int) -> tuple[Any, Any, Any]:
    others = [i for i in range(tensor.ndim) if i != axis]
    zeros = keras.ops.sum(keras.ops.cast(keras.ops.equal(tensor, 0), "int32"), axis=others)
    return zeros, keras.ops.size(tensor) // tensor.shape[axis], _has_nan(tensor)


def _runner(model: keras.Model, snapshot: Snapshot, graph: Graph) -> Callable[[list[Any], bool], dict[Ref, Any]]:
    """A function from a model's inputs to all its tensors.

    As in `predict`, `training` given to the model goes before what is written in a call of its graph.
    """
    given = [Ref(name, (0,), 0) for name in leaves(snapshot.config.get("input_layers", []))[::3]] or graph.inputs
    operations = dict(_operations(model, snapshot.record, ""))
    calls = [call for call in graph.calls if not is_input(call.record)]
    revived = [_revived([call.args, call.kwargs], snapshot) for call in calls]

    def run(inputs: list[Any], training: bool) -> dict[Ref, Any]:
        tensors = dict(zip(given, inputs, strict=True))
        for call, arguments in zip(calls, revived, strict=True):
            args, kwargs = _looked_up(arguments, tensors)
            kwargs |= {"training": training} if "training" in kwargs else {}
            made = keras.tree.flatten(operations[call.path](*args, **kwargs))
            tensors.update({Ref(call.path, call.node, i): x for i, x in enumerate(made)})
        return tensors

    return run


def _operations(model: keras.Model, record: Record, scope: str) -> Iterator[tuple[str, Any]]:
    """Every layer and operation of a model that is no nested model, with its path."""
    records = {name_of(layer): layer for layer in record["config"]["layers"]}
    for operation in model.layers if isinstance(model, keras.Sequential) else model.operations:
        path = join_path(scope, operation.name)
        if is_model(records[operation.name]):
            yield from _operations(operation, records[operation.name], path)
        else:
            yield path, operation


def _revived(tree: Any, snapshot: Snapshot) -> Any:
    """A call's arguments with everything but the tensors made of its record."""
    match tree:
        case Ref():
            return tree
        case Constant(where=where):
            return keras.saving.deserialize_keras_object(thaw(get_in(snapshot.record, where[:-2])))
        case {"class_name": _}:
            return keras.saving.deserialize_keras_object(thaw(tree))
        case dict():
            return {key: _revived(item, snapshot) for key, item in tree.items()}
        case list():
            return [_revived(item, snapshot) for item in tree]
    return tree


def _looked_up(tree: Any, tensors: Mapping[Ref, Any]) -> Any:
    """A call's arguments with every tensor put in its place."""
    return map_leaves(lambda leaf: tensors[leaf] if isinstance(leaf, Ref) else leaf, tree)
