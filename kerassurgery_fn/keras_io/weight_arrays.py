"""Reads the variables of a live model as arrays, and creates tensors from arrays, with no copy more than necessary."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import keras
import numpy as np

ALIGNMENT = 64  # bytes; TensorFlow only uses memory at a multiple of it, and copies all other memory
# Dtypes for which NumPy and TensorFlow share memory.
SHAREABLE = {np.dtype(name): name for name in ("float16", "float32", "float64")}


def arrays_of(variables: Iterable[keras.Variable]) -> tuple[np.ndarray, ...]:
    """The values of variables as arrays that later training does not change.

    Tensors of TensorFlow never change, so an array can share the memory of a tensor. A variable whose value is in use
    elsewhere gets other memory when it is assigned:

        variable --> memory <-- array              variable.assign_add(1):
                                                   variable --> new memory       memory <-- array
    """
    if keras.backend.backend() != "tensorflow":
        return tuple(_without_shared_memory(keras.ops.convert_to_numpy(variable)) for variable in variables)
    tensors = (variable.value.value() for variable in variables)
    # TensorFlow has no array for a scalar, only a number.
    return tuple(np.asarray(tensor if tensor.ndim else tensor.numpy()) for tensor in tensors)


def _without_shared_memory(array: np.ndarray) -> np.ndarray:
    """The array, copied if it does not own its memory. Some backends return memory that training changes."""
    array = np.asarray(array)  # a scalar weight can be a NumPy scalar
    return array if array.flags.owndata else array.copy()


def tensor_of(array: np.ndarray, dtype: str) -> Any:
    """A tensor with a copy of an array.

    TensorFlow copies an array twice if its memory is not aligned, and NumPy does not align it. So the copy is made
    here, and TensorFlow gets its memory.
    """
    is_shareable = array.size > 0 and SHAREABLE.get(array.dtype) == dtype
    if keras.backend.backend() != "tensorflow" or not is_shareable:
        return keras.ops.convert_to_tensor(array, dtype=dtype)
    import tensorflow as tf

    return tf.experimental.dlpack.from_dlpack(_aligned_copy(array).__dlpack__())


def _aligned_copy(array: np.ndarray) -> np.ndarray:
    """A contiguous copy of an array in aligned memory."""
    memory = np.empty(array.nbytes + ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % ALIGNMENT
    copy = memory[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    np.copyto(copy, array)
    return copy
