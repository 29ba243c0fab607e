"""`score_by_apoz`: the Average Percentage of Zeros of channels, measured on data."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import keras
import numpy as np

from kerassurgery_fn.analysis.channel_flow import Flow, analyse
from kerassurgery_fn.arguments import as_count, as_model_or_snapshot, optional, takes
from kerassurgery_fn.channels import FIXED, as_map
from kerassurgery_fn.graph import selectors
from kerassurgery_fn.measure.channel_views import all_views, views_of
from kerassurgery_fn.measure.criterion_statistics import Options
from kerassurgery_fn.measure.progress_bars import Progress, as_progress
from kerassurgery_fn.measure.statistics_pass import capture_silently, run_pass, with_a_graph
from kerassurgery_fn.pruning.channel_statistics import ChannelStatistics
from kerassurgery_fn.values.snapshot import Snapshot
from kerassurgery_fn.values.warning_origin import warn


@takes(model=as_model_or_snapshot, batch_size=as_count, steps=optional(as_count), progress=as_progress)
def score_by_apoz(
    model: keras.Model | Snapshot,
    data: Any,
    *,
    layers: Any = None,
    batch_size: int = 32,
    steps: int | None = None,
    progress: bool | Progress | None = None,
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
        data: an array, or a list or dict of arrays for several inputs; a tuple (x, y) of these; a `tf.data.Dataset`, a
            `keras.utils.PyDataset` or another iterable of batches. A batch is `x`, `(x,)`, `(x, y)` or
            `(x, y, weights)`, as in `fit`. A list of arrays means several inputs, a list of tuples means batches.
        layers: a layer, its name, path or address (`attention:num_heads`), a pattern, or several of these; by default
            all layers whose output has their channels.
        batch_size: samples per batch, for data in arrays.
        steps: maximum number of batches; required for endless data.
        progress: by default a progress bar if the standard output is a terminal; False: none; or a function such as
            `tqdm.tqdm`, called with the batches and `total=`, their number, or None if it is unknown.

    Returns:
        Address of the channels (the layer's path) -> APoZ, from 0 to 1, float64, shape (channels,).

    Raises:
        BadData: no batch, endless data without `steps`, NaN, or arrays that do not fit the model's inputs.
        UnknownLayer, AmbiguousLayer, NoChannels: `layers` has an unknown or ambiguous name, or a layer without
            channels.
        NotAGraph: the model is subclassed, and `capture` cannot record it.

    Source:
        Hu et al. 2016, Network Trimming, arXiv:1607.03250.
    """
    model = with_a_graph(model)
    snapshot = model if isinstance(model, Snapshot) else capture_silently(model)
    views = all_views if layers is None else partial(views_of, layers=tuple(selectors(layers)))
    flow = analyse(snapshot)
    if not views(flow):
        return {}
    counts = run_pass("zeros of activations", model, data, Options(views), batch_size, steps, progress)
    scores = apoz_of(counts)
    warn_of_layers_without_zeros(
        {name: apoz for name, apoz in scores.items() if layers is not None or _can_be_cut(flow, name)}
    )
    return scores


def apoz_of(counts: ChannelStatistics) -> dict[str, np.ndarray]:
    """Address of the channels -> APoZ, at a fork that of the branch with the fewest zeros."""
    return {name: -counts.pooled(name, lambda zeros: -zeros.apoz) for name in counts}


def warn_of_layers_without_zeros(scores: Mapping[str, np.ndarray]) -> None:
    """Warns of layers whose channels all have the APoZ 0.0."""
    if names := [name for name, apoz in scores.items() if not apoz.any()]:
        warn(
            f"no value of {', '.join(map(repr, names))} was exactly zero: the APoZ of all channels there is 0.0 and "
            "says nothing about them, because an activation such as gelu, tanh or linear outputs no zeros. Select "
            "layers before a ReLU with layers=, or use another criterion"
        )


def _can_be_cut(flow: Flow, name: str) -> bool:
    """Whether any channel of a layer can be cut."""
    ids = flow.solution.resolve(as_map(flow.producer(name).axis))
    return bool((~flow.solution.pinned()[ids] & (ids != FIXED)).any())
