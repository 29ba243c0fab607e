"""Gradients with TensorFlow. All that depends on the backend of Keras stands here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras

from kerassurgery_fn.errors import SurgeryError

Watch = Callable[[Any], None]


def refuse_other_backends() -> None:
    """Raises SurgeryError if Keras runs on another backend."""
    if (backend := keras.backend.backend()) != "tensorflow":
        raise SurgeryError(
            f"criteria on gradients need the TensorFlow backend, and Keras runs on {backend!r}: set KERAS_BACKEND, or "
            "use a criterion on weights or activations"
        )


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of tensors, compiled once for batches of any number of samples."""
    import tensorflow as tf

    graphs: dict[str, Any] = {}

    def any_number(tensor: Any) -> Any:
        return None if tensor is None else tf.TensorSpec([None, *tensor.shape[1:]], tensor.dtype)

    def run(*arguments: Any) -> Any:
        specs = tf.nest.map_structure(any_number, arguments)
        key = str(specs)
        if key not in graphs:
            graphs[key] = tf.function(function).get_concrete_function(*specs)
        return graphs[key](*arguments)

    return run


def value_and_gradients(function: Callable[[Watch], tuple[Any, Any, Sequence[Any]]]) -> tuple[Any, list[Any]]:
    """Gradients of a number, zero where it does not depend on a tensor.

    Args:
        function: a function that is given `watch`, calls it for each tensor of interest as soon as there is one, and
            returns a value, the number, and the tensors of interest.

    Returns:
        The value, and the gradient with respect to each tensor of interest.
    """
    import tensorflow as tf

    with tf.GradientTape(watch_accessed_variables=False) as tape:
        value, number, sources = function(tape.watch)
    gradients = tape.gradient(number, sources, unconnected_gradients=tf.UnconnectedGradients.ZERO)
    return value, [tf.convert_to_tensor(gradient) for gradient in gradients]


def signs(seeds: Any, shape: Any) -> Any:
    """Random signs, -1.0 or 1.0, that depend on the seed of each sample and the index alone.

    Args:
        seeds: uint32, shape (samples,).
        shape: the shape of the signs, a tensor; its first size is the number of samples.

    Returns:
        float32, of that shape.
    """
    import tensorflow as tf

    values = tf.reduce_prod(shape[1:])
    index = tf.cast(tf.range(values), tf.uint32)
    mixed = _mixed(_mixed(seeds)[:, None] + index[None] * tf.constant(2654435769, tf.uint32))
    ones = tf.cast(tf.bitwise.right_shift(mixed, tf.constant(31, tf.uint32)), tf.float32)
    return tf.reshape(2 * ones - 1, shape)


def _mixed(x: Any) -> Any:
    """Integers whose bits depend on all bits of x: the finaliser of MurmurHash3 (A. Appleby, public domain)."""
    import tensorflow as tf

    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35), (16, 1)):
        x = tf.bitwise.bitwise_xor(x, tf.bitwise.right_shift(x, tf.constant(shift, tf.uint32)))
        x *= tf.constant(factor, tf.uint32)
    return x
