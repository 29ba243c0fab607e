"""`score_by_apoz`: the Average Percentage of Zeros of channels, measured on data."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from functools import reduce
from operator import add
from typing import Any

import keras
import numpy as np

from kerassurgery_fn.analysis.channel_flow import Flow, analyse
from kerassurgery_fn.arguments import as_count, as_function, as_model_or_snapshot, optional, takes
from kerassurgery_fn.channels import FIXED, as_map, size
from kerassurgery_fn.errors import BadData, NoChannels
from kerassurgery_fn.graph import selectors
from kerassurgery_fn.keras_io.capturing import capture_graph
from kerassurgery_fn.keras_io.rebuilding import rebuild
from kerassurgery_fn.measure.input_batches import batch_count, batches
from kerassurgery_fn.measure.zero_counter import Counts, ZeroCounter
from kerassurgery_fn.pruning.activation_views import View, address, views
from kerassurgery_fn.pruning.apoz_scores import ZeroCounts, fewest
from kerassurgery_fn.rules.layer import Producer
from kerassurgery_fn.values.snapshot import Snapshot
from kerassurgery_fn.values.warning_origin import warn

Progress = Callable[..., Iterable[Any]]
ViewsByLayer = dict[str, list[list[View]]]  # address of a layer's channels -> for each call, where they are seen


@takes(model=as_model_or_snapshot, batch_size=as_count, steps=optional(as_count), progress=optional(as_function))
def score_by_apoz(
    model: keras.Model | Snapshot,
    data: Any,
    *,
    layers: Any = None,
    batch_size: int = 32,
    steps: int | None = None,
    progress: Progress | None = None,
) -> dict[str, np.ndarray]:
    """The Average Percentage of Zeros (APoZ) of every channel, as fractions, measured in one pass over data.

    A channel with a high APoZ is zero for most inputs, so it can be deleted; `identify.high_apoz` selects such
    channels.

    Zeros are counted after the first nonlinear activation that follows the layer, over the batch and all axes but the
    channel axis. The calls of a shared layer are counted together. Where the graph forks, the branch with the lowest
    APoZ is used. Zeros are counted while the model runs, so memory holds one batch at a time.

    Activations that are never exactly zero (gelu, tanh, linear) give all channels the score 0.0, which says nothing
    about them. A warning names the layers for which this happens, if they were selected or have channels to cut.

    Args:
        model: a Keras model, which is not changed, or a snapshot.
        data: an array, or a list or dict of arrays for several inputs; a `tf.data.Dataset`, a `keras.utils.PyDataset`
            or another iterable of batches. A batch is `x`, `(x,)`, `(x, y)` or `(x, y, weights)`, as in `fit`. A list
            of arrays means several inputs, a list of tuples means batches.
        layers: a layer, its name, path or address (`attention:num_heads`), a pattern, or several of these; by default
            all layers whose output has their channels.
        batch_size: samples per batch, for data in arrays.
        steps: maximum number of batches; required for endless data.
        progress: wraps the batches to show progress, for example `tqdm.tqdm` or `rich.progress.track`; called with the
            batches and `total=`, their number, or None if it is unknown.

    Returns:
        Address of the channels (the layer's path) -> APoZ, from 0 to 1, float64, shape (channels,).

    Raises:
        BadData: no batch, endless data without `steps`, NaN, or arrays that do not fit the model's inputs.
        UnknownLayer, AmbiguousLayer, NoChannels: `layers` has an unknown or ambiguous name, or a layer without
            channels.
        NotAGraph: the model is subclassed.

    Source:
        Hu et al. 2016, Network Trimming, arXiv:1607.03250.
    """
    snapshot = model if isinstance(model, Snapshot) else capture_silently(model)
    flow = analyse(snapshot)
    views_by_layer = _views_by_layer(flow, layers)
    if not views_by_layer:
        return {}
    live_model = rebuild(snapshot) if isinstance(model, Snapshot) else model
    channel_axes = sorted(
        {(view.tensor, view.axis) for calls in views_by_layer.values() for call in calls for view in call}
    )
    input_batches = _with_progress(data, batch_size, steps, progress)
    counts = _count_batches(ZeroCounter(live_model, snapshot, flow.trace, channel_axes), input_batches)
    scores = {
        name: _pooled(calls, counts, size(flow.producer(name).axis) or 0).apoz for name, calls in views_by_layer.items()
    }
    without_zeros = [name for name, apoz in scores.items() if not apoz.any()]
    _warn_of_layers_without_zeros([name for name in without_zeros if layers is not None or _can_be_cut(flow, name)])
    return scores


def capture_silently(model: keras.Model) -> Snapshot:
    """The snapshot of a live model, without warnings: they concern the rebuilt model, and none is built."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return capture_graph(model)


def _with_progress(data: Any, batch_size: int, steps: int | None, progress: Progress | None) -> Iterable[Any]:
    """The batches of data, wrapped by `progress`."""
    input_batches = batches(data, batch_size, steps)
    total = batch_count(data, batch_size, steps)
    return progress(input_batches, total=total) if progress else input_batches


def _warn_of_layers_without_zeros(names: list[str]) -> None:
    if names:
        warn(
            f"no value of {', '.join(map(repr, names))} was exactly zero: the APoZ of all channels there is 0.0 and "
            "says nothing about them, because an activation such as gelu, tanh or linear outputs no zeros. Select "
            "layers before a ReLU with layers=, or use another criterion"
        )


def _can_be_cut(flow: Flow, name: str) -> bool:
    """Whether any channel of a layer can be cut."""
    ids = flow.solution.resolve(as_map(flow.producer(name).axis))
    return bool((~flow.solution.pinned()[ids] & (ids != FIXED)).any())


def _views_by_layer(flow: Flow, layers: Any) -> ViewsByLayer:
    """Where the channels of each selected layer are seen, call by call.

    Raises:
        NoChannels: a selected layer has no output with its channels.
    """
    if layers is None:
        all_views = {address(flow, producer): views(flow, producer) for producer in flow.producers.values()}
        return {name: calls for name, calls in all_views.items() if calls}
    selected = [producer for selector in selectors(layers) for producer in flow.producers_at(selector)]
    producers: dict[str, Producer] = {address(flow, producer): producer for producer in selected}
    views_by_layer = {name: views(flow, producer) for name, producer in producers.items()}
    for name, calls in views_by_layer.items():
        if not calls:
            raise NoChannels(
                f"no output of the layer has the channels {name!r} (they are on no tensor), so their zeros cannot be "
                "counted; score the layers before it, or leave it out of `layers`"
            )
    return views_by_layer


def _count_batches(counter: ZeroCounter, input_batches: Iterable[Any]) -> Counts:
    """The counts of all batches together."""
    counts: Counts = {}
    for batch in input_batches:
        batch_counts = counter.count(batch)
        counts = {axis: counts[axis] + more if counts else more for axis, more in batch_counts.items()}
    if not counts:
        raise BadData("the data has no batch, so nothing can be scored; is it an iterator that was read before?")
    return counts


def _pooled(calls: list[list[View]], counts: Counts, channels: int) -> ZeroCounts:
    """The counts of a layer's channels: for each call, the branch with the fewest zeros; all calls added."""
    counts_by_call = [
        [counts[view.tensor, view.axis].of(view.starts, channels) for view in branches] for branches in calls
    ]
    return reduce(add, map(fewest, counts_by_call))
