"""`measure_statistics`: measures statistics for criteria in one pass over data."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import keras

from kerassurgery_fn.arguments import as_count, as_model_or_snapshot, optional, takes
from kerassurgery_fn.errors import BadData, MissingData
from kerassurgery_fn.graph import leaves, read_graph, selectors
from kerassurgery_fn.keras_io.capturing import capture, capture_graph
from kerassurgery_fn.keras_io.coded_models import has_graph
from kerassurgery_fn.keras_io.rebuilding import rebuild
from kerassurgery_fn.measure.channel_views import views_of, views_of_free_channels
from kerassurgery_fn.measure.criterion_statistics import (
    STATISTICS,
    Options,
    Select,
    every_sample,
    refuse_missing_data,
)
from kerassurgery_fn.measure.data_shards import as_executor, measured_by
from kerassurgery_fn.measure.input_batches import Batch, batch_count, batches, sample_count
from kerassurgery_fn.measure.progress_bars import Progress, as_progress, with_progress
from kerassurgery_fn.measure.sample_losses import objective_of
from kerassurgery_fn.pruning.block_scores import as_block_criterion
from kerassurgery_fn.pruning.channel_statistics import ChannelStatistics
from kerassurgery_fn.pruning.criterion_registry import Criterion, CriterionFunction
from kerassurgery_fn.pruning.summed_arrays import SummedArrays
from kerassurgery_fn.values.snapshot import Snapshot


@takes(
    model=as_model_or_snapshot, by=as_block_criterion, batch_size=as_count, steps=optional(as_count),
    progress=as_progress, executor=optional(as_executor),
)  # fmt: skip
def measure_statistics(
    model: Any,
    data: Any,
    by: str | CriterionFunction | Criterion = "mean_activation",
    *,
    loss: Any = None,
    layers: Any = None,
    batch_size: int = 32,
    steps: int | None = None,
    progress: bool | Progress | None = None,
    executor: Any = None,
) -> ChannelStatistics | SummedArrays:
    """What a criterion reads besides the weights, for all layers, measured in one pass over data.

        a = measure_statistics(model, first_half, "hrank")          # on one machine
        b = measure_statistics(model, second_half, "hrank")         # on another
        scores = importance(capture(model), "hrank", statistics=a + b)

    The result does not depend on how the data is split, to rounding. The model runs as in `predict`: dropout is off,
    and batch normalisation uses its moving statistics. Memory does not grow with the data.

    Args:
        model: a Keras model, which is not changed, or a snapshot.
        data: an array, or a list or dict of arrays for several inputs; a tuple of these, (x, y) or (x, y, weights); a
            `tf.data.Dataset`, a `keras.utils.PyDataset` or another iterable of batches. A batch is `x`, `(x,)`,
            `(x, y)` or `(x, y, weights)`, as in `fit`.
        by: the criterion: a name or a function, as for `importance` and `score_blocks`.
        loss: the loss for criteria on gradients: a loss of Keras, its name, a function, or several of these by output,
            as for `compile`; by default that of the compiled model. It is summed over samples, whatever its reduction.
        layers: a layer, its name, path or address, a pattern, or several of these; by default all layers that have
            channels which can be cut.
        batch_size: samples per batch, for data in arrays.
        steps: maximum number of batches; required for endless data.
        progress: by default a progress bar if the standard output is a terminal; False: none; or a function such as
            `tqdm.tqdm`, called with the batches and `total=`, their number, or None if it is unknown.
        executor: a `concurrent.futures.Executor`, for example `client.get_executor()` of Dask, or
            `ProcessPoolExecutor(mp_context=multiprocessing.get_context("spawn"))`; forked processes hang. Its workers
            measure parts of the data, and must be able to import layers of your own.

    Returns:
        Statistics, which can be added (`a + b`) and saved (`save_statistics`).

    Raises:
        MissingData: the criterion needs no statistics, or such as the library cannot measure; or it needs a loss or
            labels, and there are none.
        BadValue: Keras does not know the loss.
        BadData: no batch, endless data without `steps`, NaN, or arrays that do not fit the model's inputs; or an
            activation or gradient is NaN or infinite, and the message names the layer.
        UnknownLayer, AmbiguousLayer, NoChannels: `layers` has an unknown or ambiguous name, or a layer without
            channels.
        NotAGraph: the model is subclassed, and `capture` cannot record it.
    """
    criterion = as_block_criterion(by)
    if not criterion.needs:
        raise MissingData(
            f"the criterion {criterion.name!r} reads weights only; importance(snapshot, by) needs no data"
        )
    refuse_missing_data(criterion, data)
    views = views_of_free_channels if layers is None else partial(views_of, layers=tuple(selectors(layers)))
    objective = objective_of(model, loss) if STATISTICS[criterion.needs].loss else None
    options = Options(views, objective)
    statistics = run_pass(criterion.needs, model, data, options, batch_size, steps, progress, executor)
    STATISTICS[criterion.needs].warn(statistics)
    return statistics


def run_pass(
    kind: str,
    model: keras.Model | Snapshot,
    data: Any,
    options: Options,
    batch_size: int = 32,
    steps: int | None = None,
    progress: bool | Progress | None = None,
    executor: Any = None,
) -> Any:
    """The statistics of data; arguments as for `measure_statistics`.

    Raises:
        BadData: the data has no batch, or the model cannot be run on it.
    """
    model = with_a_graph(model)
    snapshot = model if isinstance(model, Snapshot) else capture_silently(model)
    start = partial(start_pass, kind, snapshot, options)
    return measured_in_batches(
        snapshot, data, start, partial(start, model), batch_size, steps, progress, executor, STATISTICS[kind].select
    )


def measured_in_batches(
    snapshot: Snapshot,
    data: Any,
    start: Callable[[], Callable[[Batch], Any]],
    start_here: Callable[[], Callable[[Batch], Any]],
    batch_size: int,
    steps: int | None,
    progress: bool | Progress | None,
    executor: Any,
    select: Select = every_sample,
) -> Any:
    """The sum of the statistics of all batches; `batch_size` to `executor` as for `measure_statistics`.

    Args:
        snapshot: the model.
        data: the data.
        start: a function that can be pickled, which each worker calls once; it returns the function that measures a
            batch.
        start_here: the same in this process, without an executor; it may use a live model.
        select: selects the samples that are measured.

    Raises:
        BadData: the data has no batch, or the model cannot be run on it.
    """
    read = batches(data, batch_size, steps, len(leaves(read_graph(snapshot).inputs)))
    shown = with_progress(read, batch_count(data, batch_size, steps), progress)
    parts = select(shown, sample_count(data, batch_size, steps))
    return added_up(map(start_here(), parts) if executor is None else measured_by(executor, start, parts))


def start_pass(
    kind: str, snapshot: Snapshot, options: Options, model: keras.Model | Snapshot | None = None
) -> Callable[[Batch], Any]:
    """A function from a batch to its statistics. A model that is not live is rebuilt."""
    live = rebuild(snapshot, compile=False) if model is None or isinstance(model, Snapshot) else model
    return STATISTICS[kind].start(kind, live, snapshot, options)


def added_up(parts: Iterable[Any]) -> Any:
    """The sum of the statistics of parts of data.

    Raises:
        BadData: there is no part.
    """
    total = None
    for part in parts:
        total = part if total is None else total + part
    if total is None:
        raise BadData("the data has no batch, so nothing can be measured; is it an iterator that was read before?")
    return total


def with_a_graph(model: keras.Model | Snapshot) -> keras.Model | Snapshot:
    """The model; a subclassed model as the snapshot of the graph that its `call` records."""
    if isinstance(model, Snapshot) or has_graph(model):
        return model
    with without_warnings():
        return capture(model)


def capture_silently(model: keras.Model) -> Snapshot:
    """The snapshot of a live model. Warnings about the rebuilt model are hidden, because no model is rebuilt."""
    with without_warnings():
        return capture_graph(model)


@contextmanager
def without_warnings() -> Iterator[None]:
    """A scope without warnings."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        yield
