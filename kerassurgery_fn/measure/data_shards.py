"""Parts of data that are measured by the workers of an executor: threads, processes, or the machines of a cluster."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import keras
import numpy as np
from toolz import partition_all

from kerassurgery_fn.arguments import kind_of
from kerassurgery_fn.errors import BadData, BadValue, SurgeryError
from kerassurgery_fn.measure.input_batches import Batch

SHARD = 8  # batches that one call of a worker measures: the model is sent with each call
HANGS_IF_FORKED = ("tensorflow", "jax")
_WORKER = threading.local()  # the last model of each thread of a worker, so that it is built once


def as_executor(value: Any, name: str = "executor") -> Any:
    """The executor.

    Raises:
        BadValue: it has no method `submit`, or it forks processes, which wait for ever in TensorFlow or JAX.
    """
    backend = keras.backend.backend()
    if isinstance(value, ProcessPoolExecutor) and start_method(value) == "fork" and backend in HANGS_IF_FORKED:
        raise BadValue(
            f"{name}: processes that are forked hang, because {backend} has started threads before: give "
            "ProcessPoolExecutor(mp_context=multiprocessing.get_context('spawn')), below if __name__ == '__main__':"
        )
    if callable(getattr(value, "submit", None)):
        return value
    raise BadValue(f"{name} must be a concurrent.futures.Executor, such as ThreadPoolExecutor(), not {kind_of(value)}")


def start_method(executor: ProcessPoolExecutor) -> str:
    """How an executor starts its processes: `fork`, `spawn` or `forkserver`."""
    context = getattr(executor, "_mp_context", None) or multiprocessing.get_context()
    return str(context.get_start_method())


def measured_by(executor: Any, start: Callable[[], Callable[[Batch], Any]], batches: Iterable[Batch]) -> Iterator[Any]:
    """The statistics of each shard of data, in the order of the data.

    Few shards are in memory at a time, so that it does not grow with the data.

    Args:
        executor: a `concurrent.futures.Executor`.
        start: a function that can be pickled; each worker calls it once. It returns the function that measures a batch.
        batches: the data.
    """
    sent = _pickled(start)
    limit = 2 * (os.cpu_count() or 1)
    pending: deque[Any] = deque()
    for shard in partition_all(SHARD, batches):
        pending.append(executor.submit(_measure_shard, sent, [_in_numpy(batch) for batch in shard]))
        if len(pending) >= limit:
            yield _result(pending.popleft())
    while pending:
        yield _result(pending.popleft())


def _measure_shard(sent: bytes, shard: list[Batch]) -> Any:
    """The statistics of a shard. Runs in a worker."""
    measure = _started(sent)
    statistics = None
    for batch in shard:
        more = measure(batch)
        statistics = more if statistics is None else statistics + more
    return statistics


def results_by(executor: Any, start: Callable[[], Callable[[Any], Any]], items: Iterable[Any]) -> Iterator[Any]:
    """The results of a function for some items, in their order, computed by the workers of an executor.

    Args:
        executor: a `concurrent.futures.Executor`.
        start: a function that can be pickled; each worker calls it once. It returns the function of an item.
        items: the items.

    Raises:
        BadValue: the function cannot be pickled. What it raises in a worker is raised here.
    """
    sent = _pickled(start)
    futures = [executor.submit(_result_for, sent, item) for item in items]
    try:
        for future in futures:
            yield future.result()
    finally:
        for future in futures:
            future.cancel()


def _result_for(sent: bytes, item: Any) -> Any:
    """The result for an item. Runs in a worker."""
    return _started(sent)(item)


def _started(sent: bytes) -> Callable[[Any], Any]:
    """The function that was sent to a worker, which builds its model once."""
    if getattr(_WORKER, "sent", None) != sent:
        _WORKER.function, _WORKER.sent = pickle.loads(sent)(), sent
    return _WORKER.function


def _pickled(start: Any) -> bytes:
    try:
        return pickle.dumps(start)
    except Exception as error:  # a function, or a layer of the caller, may raise anything
        raise BadValue(
            f"the model, or a function, cannot be sent to the workers of the executor ({error}): give loss= as a name, "
            "and functions that are defined at the top of a module"
        ) from error


def _in_numpy(batch: Batch) -> Batch:
    """A batch of NumPy arrays, which can be pickled."""
    return Batch(*(part if part is None else keras.tree.map_structure(np.asarray, part) for part in batch))


def _result(future: Any) -> Any:
    try:
        return future.result()
    except SurgeryError:
        raise
    except Exception as error:  # a worker may end, or lack a module
        raise BadData(f"a worker of the executor cannot measure its data: {type(error).__name__}: {error}") from error
