"""`recalibrate_batch_norm`: the moving statistics of batch normalisations, estimated again on data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from toolz import valfilter

from kerassurgery_fn.arguments import as_count, as_model_or_snapshot, optional, shortened, takes
from kerassurgery_fn.errors import BadData, MissingData, NoBatchNorm
from kerassurgery_fn.graph import as_selector, find_layers, read_graph
from kerassurgery_fn.keras_io.capturing import capture
from kerassurgery_fn.keras_io.own_objects import knows_own_objects
from kerassurgery_fn.keras_io.rebuilding import rebuild
from kerassurgery_fn.measure.batch_norm_inputs import Norm, norms_of, start_reading
from kerassurgery_fn.measure.data_shards import as_executor
from kerassurgery_fn.measure.progress_bars import Progress, as_progress
from kerassurgery_fn.measure.statistics_pass import measured_in_batches
from kerassurgery_fn.pruning.activation_statistics import Moments
from kerassurgery_fn.pruning.channel_statistics import ChannelStatistics
from kerassurgery_fn.values.snapshot import Snapshot

# The statistics that a batch normalisation keeps: functions of the moments of its inputs and of epsilon.
MOVING: dict[str, Callable[[Moments, float], np.ndarray]] = {
    "moving_mean": lambda total, epsilon: total.mean,
    "moving_variance": lambda total, epsilon: total.variance,
    "moving_stddev": lambda total, epsilon: np.sqrt(total.variance + epsilon),
    "renorm_mean": lambda total, epsilon: total.mean,
    "renorm_stddev": lambda total, epsilon: np.sqrt(total.variance + epsilon),
}


@takes(
    model=as_model_or_snapshot, batch_size=as_count, steps=optional(as_count), progress=as_progress,
    executor=optional(as_executor),
)  # fmt: skip
@knows_own_objects
def recalibrate_batch_norm(
    model: Any,
    data: Any,
    *,
    layers: Any = None,
    batch_size: int = 32,
    steps: int | None = None,
    progress: bool | Progress | None = None,
    executor: Any = None,
) -> Any:
    """The model with the moving statistics of its batch normalisations estimated again, in one pass over data.

        smaller = prune(model, macs=0.5).model
        smaller = recalibrate_batch_norm(smaller, images)

    After a cut, the inputs of layers differ from those on which their moving statistics were measured. A few hundred
    samples are enough to correct the statistics, without training and without labels.

    Batch normalisations normalise by the statistics of each batch, as in training; all other layers run as in
    `predict`, so dropout is off. The old statistics are dropped. The new statistics are the exact mean and variance of
    all inputs of the layer, over batches of any size, and not an average that decays with `momentum`:

        mean = sum over batches of n_b * mean_b / n
        variance = sum over batches of n_b * (variance_b + (mean_b - mean) ** 2) / n

    Layers after the first batch normalisation depend on how the data is split into batches, as in training. So use the
    batch size of the training, in random order. Masked positions do not count. All calls of a shared layer count
    together. Frozen layers are recalibrated, too, because a cut also changes their inputs; use `layers` to leave them
    out. Gamma, beta and all other weights do not change.

    Args:
        model: a Keras model, which is not changed, or a snapshot.
        data: inputs in any form that `fit` takes; labels are not read.
        layers: a layer, its name or path, a pattern, or several of these; by default all layers. Other layers normalise
            by their old statistics.
        batch_size: samples per batch, for data in arrays.
        steps: maximum number of batches; required for endless data.
        progress, executor: as for `measure_statistics`.

    Returns:
        A new model, compiled as the model was; a snapshot for a snapshot.

    Raises:
        NoBatchNorm: there is no batch normalisation among the layers.
        MissingData: `data` is None.
        BadData: no batch, endless data without `steps`, NaN, arrays that do not fit the model's inputs, or batches
            with one value for each channel, whose variance is zero.
        UnknownLayer, AmbiguousLayer: `layers` has an unknown or ambiguous name.
        NotAGraph: the model is subclassed, and `capture` cannot record it.

    Source:
        Li et al. 2020, EagleEye, arXiv:2007.02491 (adaptive batch normalisation); Wu and Johnson 2021, Rethinking
        "Batch" in BatchNorm, arXiv:2105.07576 (exact statistics over the data).
    """
    if data is None:
        raise MissingData("moving statistics are measured on data, and there is none: give inputs, as for predict")
    snapshot = model if isinstance(model, Snapshot) else capture(model)
    safe_mode = isinstance(model, Snapshot)  # a live model has run its lambdas
    copy = rebuild(snapshot, compile=False, safe_mode=safe_mode)
    norms = selected_norms(norms_of(copy, snapshot.record), snapshot, layers)
    start = partial(start_reading, snapshot, [*norms])
    moments = measured_in_batches(
        snapshot, data, start, partial(start, copy), batch_size, steps, progress, executor
    )  # fmt: skip
    refuse_single_values(moments)
    recalibrated = with_moving_statistics(snapshot, norms, moments)
    return recalibrated if isinstance(model, Snapshot) else rebuild(recalibrated, safe_mode=safe_mode)


def selected_norms(norms: Mapping[str, Norm], snapshot: Snapshot, layers: Any) -> dict[str, Norm]:
    """The batch normalisations in selected layers.

    Raises:
        NoBatchNorm: there are none.
    """
    paths = [""] if layers is None else find_layers(read_graph(snapshot), as_selector(layers))
    selected = valfilter(lambda norm: any(is_within(norm.path, path) for path in paths), norms)
    if not selected:
        where = "" if layers is None else f" among the layers {shortened(layers)}"
        raise NoBatchNorm(
            f"{snapshot.name!r} has no BatchNormalization{where}, so there are no moving statistics to estimate"
        )
    return selected


def is_within(path: str, outer: str) -> bool:
    """Whether a layer is a selected layer, or inside of a selected model; the model as a whole has the path ''.

    >>> is_within("backbone/bn", "backbone"), is_within("bn", ""), is_within("bn_1", "bn")
    (True, True, False)
    """
    return not outer or path == outer or path.startswith(f"{outer}/")


def refuse_single_values(moments: ChannelStatistics) -> None:
    """Raises BadData if each batch of a layer had only one value for each channel, so that all variances are zero."""
    for name, ((total,),) in moments.items():
        if not total.deviations.any() and total.values.max() <= moments.samples:
            raise BadData(
                f"the batch normalisation {name!r} was given the same values in all {moments.samples} samples, so its "
                "statistics say nothing: give batches of several different samples, batch_size=32 for example"
            )


def with_moving_statistics(snapshot: Snapshot, norms: Mapping[str, Norm], moments: ChannelStatistics) -> Snapshot:
    """The snapshot with new moving statistics of some batch normalisations. Layers that were not called keep theirs.

    Args:
        snapshot: the model.
        norms: the batch normalisations by name.
        moments: the moments of their inputs by the same names.
    """
    weights = dict(snapshot.weights)
    for name, ((total,),) in moments.items():
        norm = norms[name]
        arrays = list(weights[norm.path])
        for statistic, slot in norm.slots.items():
            arrays[slot] = MOVING[statistic](total, norm.layer.epsilon).astype(arrays[slot].dtype)
        weights[norm.path] = tuple(arrays)
    return replace(snapshot, weights=weights)
