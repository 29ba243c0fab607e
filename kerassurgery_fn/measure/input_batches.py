"""Input data in every form that Keras accepts, read batch by batch."""

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


def check_batch(batch: Any, model: keras.Model) -> Any:
    """The batch itself.

    Raises:
        BadData: the batch does not consist of one array for each input of the model.
    """
    arrays = keras.tree.flatten(batch)
    if others := [type(item).__name__ for item in arrays if not hasattr(item, "shape")]:
        raise BadData(f"a batch of the data consists of {others[0]}, not of arrays; pass NumPy arrays or tensors")
    if len(arrays) == len(model.inputs) == 1:
        _refuse_single_sample(arrays[0].shape, model.inputs[0].shape)
    # A dict may have more arrays than the model has inputs: Keras picks the inputs by name.
    if len(arrays) < len(model.inputs) or (len(arrays) > len(model.inputs) and not isinstance(batch, Mapping)):
        raise BadData(
            f"a batch of the data has {len(arrays)} arrays, and the model has {len(model.inputs)} inputs. A list of "
            "arrays means several inputs, a batch (x, y) an input and its targets: pass batches of several inputs as "
            "([a, b],) or as dicts, and several batches of one input as an iterator, iter([a, b])"
        )
    return batch


def _refuse_single_sample(shape: Shape, input_shape: Shape) -> None:
    """Raises BadData for an array with the shape of one sample, without a batch axis."""
    # Keras reads an array of shape (n,) as n samples of one feature, if the input has one feature.
    is_one_feature = len(shape) == 1 and input_shape[-1] in (1, None)
    if len(shape) == len(input_shape) - 1 and not is_one_feature:
        raise BadData(
            f"an array of shape {tuple(shape)} has no batch axis, and the model takes {tuple(input_shape)}: give "
            "data[None] if it is one sample"
        )


def batches(data: Any, batch_size: int, steps: int | None) -> Iterator[Any]:
    """The inputs of a model, batch by batch, without targets and sample weights."""
    if _consists_of_arrays(data):
        return islice(_slices(data, batch_size), steps)
    if steps is None and _is_endless(data):
        raise BadData("the data never ends; limit the number of batches with steps=")
    if isinstance(data, keras.utils.PyDataset):
        data = map(data.__getitem__, count() if data.num_batches is None else range(data.num_batches))
    if not isinstance(data, Iterable):
        raise BadData(f"data must be an array, a dataset or an iterable of batches, not {kind_of(data)}")
    return (keras.utils.unpack_x_y_sample_weight(batch)[0] for batch in islice(data, steps))


def _consists_of_arrays(data: Any) -> bool:
    """Whether data is in memory as a whole: an array, or a list, tuple or dict of arrays."""
    arrays = _arrays(data)
    return bool(arrays) and all(hasattr(array, "shape") and not isinstance(array, type) for array in arrays)


def _arrays(data: Any) -> list[Any]:
    if isinstance(data, Mapping):
        return list(data.values())
    return list(data) if isinstance(data, list | tuple) else [data]


def _slices(data: Any, batch_size: int) -> Iterator[Any]:
    """Arrays, split into batches along the first axis."""
    lengths = {_sample_count(array) for array in _arrays(data)}
    if len(lengths) != 1:
        raise BadData(f"the arrays have different numbers of samples: {sorted(lengths)}; give all the same number")
    for start in range(0, lengths.pop(), batch_size):
        yield keras.tree.map_structure(itemgetter(slice(start, start + batch_size)), data)


def _sample_count(array: Any) -> int:
    """The number of samples in an array.

    Raises:
        BadData: the array has no batch axis.
    """
    if len(array.shape) and isinstance(array.shape[0], int):
        return array.shape[0]
    raise BadData(f"an array of shape {tuple(array.shape)} has no batch axis of known size; add one in front")


def _is_endless(data: Any) -> bool:
    if isinstance(data, keras.utils.PyDataset):
        return data.num_batches is None
    return hasattr(data, "cardinality") and int(data.cardinality()) == -1  # tf.data.INFINITE_CARDINALITY


def batch_count(data: Any, batch_size: int, steps: int | None) -> int | None:
    """The number of batches, None if unknown."""
    if _consists_of_arrays(data):
        length = ceil(_sample_count(_arrays(data)[0]) / batch_size)
    elif isinstance(data, keras.utils.PyDataset):
        length = data.num_batches
    else:
        length = length_hint(data, -1)  # -1: a generator, or a dataset of unknown size
    return min((limit for limit in (length, steps) if limit is not None and limit >= 0), default=None)
