"""Input data in every form that Keras accepts, read batch by batch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import count, islice
from math import ceil
from operator import itemgetter, length_hint
from typing import Any, NamedTuple

import keras

from kerassurgery_fn.arguments import kind_of
from kerassurgery_fn.errors import BadData

Shape = Sequence[int | None]


class Batch(NamedTuple):
    """A batch of data: the inputs of a model, targets and sample weights, None where there are none; and for a batch of
    selected samples, the number of samples from which they were selected."""

    x: Any
    y: Any = None
    weights: Any = None
    selected_from: int | None = None

    @property
    def samples(self) -> int:
        """The number of samples of the data for which the batch stands."""
        return samples_in(self.x) if self.selected_from is None else int(self.selected_from)


def check_batch(batch: Any, model: keras.Model) -> Any:
    """The batch in the structure of the model's inputs, so that Keras does not warn of another structure.

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
    return _in_structure(batch, arrays, model)


def _in_structure(batch: Any, arrays: list[Any], model: keras.Model) -> Any:
    """Inputs in the structure that the model declares. A dict keeps its keys: Keras picks the inputs by name."""
    declared = model.inputs[0] if isinstance(model, keras.Sequential) else model.input
    if not isinstance(batch, Mapping):
        return keras.tree.pack_sequence_as(declared, arrays)
    if len(model.inputs) == 1 and not keras.tree.is_nested(declared):
        return batch.get(declared.name, batch)
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


def batches(data: Any, batch_size: int, steps: int | None, inputs: int = 1) -> Iterator[Batch]:
    """The batches of data in any form.

    Args:
        data: as for `score_by_apoz`.
        batch_size: samples per batch, for data in arrays.
        steps: the maximum number of batches.
        inputs: the number of inputs of the model. A tuple of as many arrays are the inputs; any other tuple is (x,),
            (x, y) or (x, y, weights).
    """
    if _consists_of_arrays(data):
        whole = _batch_of(data, inputs)
        return (whole._replace(**part) for part in islice(_slices(whole, batch_size), steps))
    if steps is None and _is_endless(data):
        raise BadData("the data never ends; limit the number of batches with steps=")
    if isinstance(data, keras.utils.PyDataset):
        data = map(data.__getitem__, count() if data.num_batches is None else range(data.num_batches))
    if not isinstance(data, Iterable):
        raise BadData(f"data must be an array, a dataset or an iterable of batches, not {kind_of(data)}")
    return (_unpacked(batch) for batch in islice(data, steps))


def _batch_of(data: Any, inputs: int) -> Batch:
    """Data in memory as one batch."""
    are_inputs = inputs > 1 and len(data) == inputs and all(map(_is_array, data)) if isinstance(data, tuple) else True
    return Batch(data) if are_inputs else _unpacked(data)


def _unpacked(batch: Any) -> Batch:
    """A batch in one of the forms that `fit` takes.

    Raises:
        BadData: a tuple has another length.
    """
    try:
        return Batch(*keras.utils.unpack_x_y_sample_weight(batch))
    except ValueError as error:
        raise BadData(
            f"a batch is x, (x,), (x, y) or (x, y, weights), and the data has a {kind_of(batch)} of {len(batch)} parts"
        ) from error


def _consists_of_arrays(data: Any) -> bool:
    """Whether data is in memory as a whole: an array, a list or dict of arrays, or a tuple of these, as (x, y)."""
    parts = data if isinstance(data, tuple) else (data,)
    return bool(parts) and all(map(_is_whole, parts))


def _is_whole(part: Any) -> bool:
    arrays = _arrays(part)
    return bool(arrays) and all(map(_is_array, arrays))


def _is_array(value: Any) -> bool:
    return hasattr(value, "shape") and not isinstance(value, type)


def _arrays(data: Any) -> list[Any]:
    if isinstance(data, Mapping):
        return list(data.values())
    return list(data) if isinstance(data, list | tuple) else [data]


def _slices(whole: Batch, batch_size: int) -> Iterator[dict[str, Any]]:
    """Arrays, split into batches along the first axis: the parts of a batch that are given, by name."""
    given = {name: part for name, part in whole._asdict().items() if part is not None}
    lengths = {_length(array) for part in given.values() for array in _arrays(part)}
    if len(lengths) != 1:
        raise BadData(f"the arrays have different numbers of samples: {sorted(lengths)}; give all the same number")
    for start in range(0, lengths.pop(), batch_size):
        yield keras.tree.map_structure(itemgetter(slice(start, start + batch_size)), given)


def _length(array: Any) -> int:
    """The number of samples in an array.

    Raises:
        BadData: the array has no batch axis.
    """
    if len(array.shape) and isinstance(array.shape[0], int):
        return array.shape[0]
    raise BadData(f"an array of shape {tuple(array.shape)} has no batch axis of known size; add one in front")


def samples_in(inputs: Any) -> int:
    """The number of samples in the inputs of a batch."""
    return int(keras.tree.flatten(inputs)[0].shape[0])


def _is_endless(data: Any) -> bool:
    if isinstance(data, keras.utils.PyDataset):
        return data.num_batches is None
    return hasattr(data, "cardinality") and int(data.cardinality()) == -1  # tf.data.INFINITE_CARDINALITY


def sample_count(data: Any, batch_size: int, steps: int | None) -> int | None:
    """The number of samples of data in arrays that are read, None for other data."""
    if not _consists_of_arrays(data):
        return None
    first = data[0] if isinstance(data, tuple) else data
    samples = _length(_arrays(first)[0])
    return samples if steps is None else min(samples, steps * batch_size)


def batch_count(data: Any, batch_size: int, steps: int | None) -> int | None:
    """The number of batches, None if unknown."""
    if (samples := sample_count(data, batch_size, steps)) is not None:
        return ceil(samples / batch_size)
    # The hint is -1 for a generator and for a dataset of unknown size.
    length = data.num_batches if isinstance(data, keras.utils.PyDataset) else length_hint(data, -1)
    return min((limit for limit in (length, steps) if limit is not None and limit >= 0), default=None)
