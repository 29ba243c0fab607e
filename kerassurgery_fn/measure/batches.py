"""Data as people give it for running a model, read batch by batch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import count, islice
from math import ceil
from operator import itemgetter, length_hint
from typing import Any

import keras

from kerassurgery_fn.arguments import kind_of
from kerassurgery_fn.errors import BadData

Shape = Sequence[int | None]


def fitting(batch: Any, model: keras.Model) -> Any:
    """The batch itself, if it is made of as many arrays as the model has inputs."""
    arrays = keras.tree.flatten(batch)
    if strange := [type(one).__name__ for one in arrays if not hasattr(one, "shape")]:
        raise BadData(f"a batch of the data is made of {strange[0]}, not of arrays; give numpy arrays or tensors")
    if len(arrays) == len(model.inputs) == 1:
        _refuse_one_sample(arrays[0].shape, model.inputs[0].shape)
    if len(arrays) < len(model.inputs) or (len(arrays) > len(model.inputs) and not isinstance(batch, Mapping)):
        raise BadData(
            f"a batch of the data has {len(arrays)} arrays, and the model has {len(model.inputs)} inputs. A list of "
            "arrays means several inputs, a batch (x, y) an input and its targets: give batches of several inputs as "
            "([a, b],) or as dicts, and several batches of one input as an iterator, iter([a, b])"
        )
    return batch


def _refuse_one_sample(shape: Shape, wanted: Shape) -> None:
    """Raises BadData for what has the axes of one sample and none for the batch."""
    columns = len(shape) == 1 and wanted[-1] in (1, None)  # which Keras reads as samples of one number
    if len(shape) == len(wanted) - 1 and not columns:
        raise BadData(
            f"an array of shape {tuple(shape)} has no batch axis, and the model takes {tuple(wanted)}: give data[None] "
            "if it is one sample"
        )


def batches(data: Any, batch_size: int, steps: int | None) -> Iterator[Any]:
    """The model's inputs, batch by batch, without targets and weights."""
    if _is_arrays(data):
        return islice(_slices(data, batch_size), steps)
    if steps is None and _is_endless(data):
        raise BadData("the data never ends; say with steps= how many batches to read")
    if isinstance(data, keras.utils.PyDataset):
        data = map(data.__getitem__, count() if data.num_batches is None else range(data.num_batches))
    if not isinstance(data, Iterable):
        raise BadData(f"{kind_of(data)} is no data; give an array, a dataset or an iterable of batches")
    return (keras.utils.unpack_x_y_sample_weight(batch)[0] for batch in islice(data, steps))


def _is_arrays(data: Any) -> bool:
    """Whether data is all there: an array, or a list, tuple or dict of arrays."""
    arrays = _arrays(data)
    return bool(arrays) and all(hasattr(array, "shape") and not isinstance(array, type) for array in arrays)


def _arrays(data: Any) -> list[Any]:
    if isinstance(data, Mapping):
        return list(data.values())
    return list(data) if isinstance(data, list | tuple) else [data]


def _slices(data: Any, batch_size: int) -> Iterator[Any]:
    """Arrays cut into batches along their first axis."""
    lengths = {_samples(array) for array in _arrays(data)}
    if len(lengths) != 1:
        raise BadData(f"the arrays have different numbers of samples: {sorted(lengths)}")
    for start in range(0, lengths.pop(), batch_size):
        yield keras.tree.map_structure(itemgetter(slice(start, start + batch_size)), data)


def _samples(array: Any) -> int:
    """The number of samples in an array.

    Raises:
        BadData: it has no axis of samples.
    """
    if len(array.shape) and isinstance(array.shape[0], int):
        return array.shape[0]
    raise BadData(f"an array of shape {tuple(array.shape)} has no batch axis, or its size is not known")


def _is_endless(data: Any) -> bool:
    if isinstance(data, keras.utils.PyDataset):
        return data.num_batches is None
    return hasattr(data, "cardinality") and int(data.cardinality()) == -1  # tf.data.INFINITE_CARDINALITY


def length(data: Any, batch_size: int, steps: int | None) -> int | None:
    """The number of batches, None if it is not known."""
    if _is_arrays(data):
        known = [ceil(_samples(_arrays(data)[0]) / batch_size)]
    elif isinstance(data, keras.utils.PyDataset):
        known = [data.num_batches]
    else:
        known = [length_hint(data, -1)]
    return min((n for n in [*known, steps] if n is not None and n >= 0), default=None)
