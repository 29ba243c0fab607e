"""A selection of samples by their content, for statistics that take longer than the model itself."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from hashlib import blake2b
from typing import Any

import keras
import numpy as np

from kerassurgery_fn.measure.input_batches import Batch, samples_in
from kerassurgery_fn.pruning.activation_statistics import levels_of, lowest_level


def seeds_of(inputs: Any) -> np.ndarray:
    """A random number for each sample that only depends on its content, so it does not depend on how the data is split.

    Shape (samples,), uint32.
    """
    arrays = [np.asarray(array) for array in keras.tree.flatten(inputs)]
    return np.array([_checksum(array[i] for array in arrays) for i in range(len(arrays[0]))], np.uint32)


def selected(batches: Iterable[Batch], total: int | None) -> Iterator[Batch]:
    """Batches of those samples whose level counts, see `MapRanks`. A batch says from how many samples it was selected.

        batches of 32 samples   samples   levels that count   batches of selected samples
        the first 15                480         all           15, each from 32 samples
        the next 16                 992     1 and above        8, each from about 64 samples

    Args:
        batches: the data.
        total: the number of its samples, None if it is unknown: then, those count whose level counts among the samples
            that have been read.
    """
    waiting: Any = None  # samples that are selected and in no batch yet; after the first one, there is always one
    read = reported = size = 0
    for batch in batches:
        inputs = _as_arrays(batch.x)
        if inputs is None:
            yield batch
            continue
        size = max(size, samples_in(inputs))
        if waiting is not None and _forms(waiting) != _forms(inputs):
            yield Batch(waiting, selected_from=read - reported)
            waiting, reported = None, read
        read += samples_in(inputs)
        waiting = _joined(waiting, _counting(inputs, lowest_level(total or read), waiting is None))
        while samples_in(waiting) > size:
            yield Batch(_taken(waiting, slice(size)), selected_from=read - reported)
            waiting, reported = _taken(waiting, slice(size, None)), read
    if waiting is not None:
        yield Batch(waiting, selected_from=read - reported)


def levels_in(batch: Batch) -> np.ndarray:
    """The level of each sample of a batch; 0 where its content is not an array that can be read."""
    inputs = _as_arrays(batch.x)
    return np.zeros(samples_in(batch.x), int) if inputs is None else levels_of(seeds_of(inputs))


def _counting(inputs: Any, lowest: Any, at_least_one: bool) -> Any:
    """The samples whose level counts; that of the highest level, if none counts and there must be one."""
    levels = levels_of(seeds_of(inputs))
    return _taken(inputs, levels >= (min(lowest, levels.max()) if at_least_one and levels.size else lowest))


def _as_arrays(inputs: Any) -> Any:
    """Inputs as NumPy arrays; None if they are not arrays of equally many samples."""
    flat = keras.tree.flatten(inputs)
    if not all(hasattr(array, "__array__") and len(array.shape) for array in flat):
        return None
    arrays = keras.tree.map_structure(np.asarray, inputs)
    return arrays if len({len(array) for array in keras.tree.flatten(arrays)}) == 1 else None


def _forms(inputs: Any) -> Any:
    """What arrays must have in common to be joined."""
    return keras.tree.map_structure(lambda array: f"{array.dtype} {array.shape[1:]}", inputs)


def _joined(first: Any, second: Any) -> Any:
    if first is None:
        return second
    return keras.tree.map_structure(lambda *arrays: np.concatenate(arrays), first, second)


def _taken(inputs: Any, where: Any) -> Any:
    return keras.tree.map_structure(lambda array: array[where], inputs)


def _checksum(parts: Any) -> int:
    """A number of 32 bits from the content of arrays."""
    checksum = blake2b(digest_size=4)
    for part in parts:
        content = repr(part.tolist()).encode() if part.dtype == object else np.ascontiguousarray(part).data
        checksum.update(content)
    return int.from_bytes(checksum.digest(), "little")
