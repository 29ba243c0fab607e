"""Compiled functions, gradients and singular values. All code that depends on the backend of Keras is here."""

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


def compiled_call(model: keras.Model) -> Callable[[Any], Any]:
    """The call of a model, compiled; on other backends than TensorFlow by Keras."""
    if keras.backend.backend() != "tensorflow":
        return model.predict_on_batch
    run = compiled(lambda batch: model.call(batch, training=False))
    return lambda batch: run(keras.tree.map_structure(keras.ops.convert_to_tensor, batch))


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of tensors, compiled once for batches of any number of samples.

    Where other sizes vary, too, as those of images may, it is compiled once more, for any size of these axes.
    """
    import tensorflow as tf

    graphs: list[tuple[Any, Any]] = []  # the arguments that a graph takes, and the graph

    def run(*arguments: Any) -> Any:
        fitting = (graph for specs, graph in graphs if _fit(specs, arguments))
        graph = next(fitting, None)
        if graph is None:
            specs = _widened(graphs[-1][0] if graphs else None, tf.nest.map_structure(_any_number, arguments))
            graph = tf.function(function).get_concrete_function(*specs)
            graphs.append((specs, graph))
        return graph(*arguments)

    return run


def compiled_step(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """A function of a number, float32, that assigns variables, compiled; on other backends than TensorFlow as it is."""
    if keras.backend.backend() != "tensorflow":
        return function
    import tensorflow as tf

    return tf.function(function, autograph=False).get_concrete_function(tf.TensorSpec([], "float32"))


def _any_number(tensor: Any) -> Any:
    """What a graph takes for a tensor: any number of samples. None stays None."""
    import tensorflow as tf

    return None if tensor is None else tf.TensorSpec([None, *tensor.shape[1:]], tensor.dtype)


def _fit(specs: Any, arguments: Any) -> bool:
    """Whether a graph takes some arguments."""
    import tensorflow as tf

    wanted, given = tf.nest.flatten(specs), tf.nest.flatten(arguments)
    return _same_structure(specs, arguments) and all(
        tensor is None if spec is None else tensor is not None and spec.is_compatible_with(tensor)
        for spec, tensor in zip(wanted, given, strict=True)
    )


def _widened(known: Any, new: Any) -> Any:
    """The arguments of a graph that takes the arguments of a known graph and new arguments."""
    import tensorflow as tf

    def wider(a: Any, b: Any) -> Any:
        if a is None or b is None or a.dtype != b.dtype:
            return b
        return tf.TensorSpec(a.shape.most_specific_compatible_shape(b.shape), b.dtype)

    return tf.nest.map_structure(wider, known, new) if known is not None and _same_structure(known, new) else new


def _same_structure(a: Any, b: Any) -> bool:
    import tensorflow as tf

    try:
        tf.nest.assert_same_structure(a, b)
    except (TypeError, ValueError):
        return False
    return True


def singular_values(matrices: Any) -> Any:
    """The singular values of float32 matrices, largest last.

    TensorFlow takes several times longer for them than for the eigenvalues of the symmetric products with the
    transposed matrices. In float64 these are exact to 1e-8 of the largest singular value, where float32 is to 1e-7.
    The first axis is read one by one, so that the copies in float64 take little memory.

    Matrices with numbers that are not finite have singular values of zero, or NaN on other backends.

    Args:
        matrices: shape (n, ..., rows, columns).

    Returns:
        Shape (n, ..., min(rows, columns)).
    """
    if keras.backend.backend() != "tensorflow":
        return keras.ops.flip(keras.ops.svd(matrices, compute_uv=False), axis=-1)
    import tensorflow as tf

    return tf.map_fn(_roots_of_products, matrices, fn_output_signature=tf.float64)


def _roots_of_products(matrices: Any) -> Any:
    """The roots of the eigenvalues of products of matrices with their transposes, of the smaller size, ascending."""
    import tensorflow as tf

    rows, columns = matrices.shape[-2:]
    finite = tf.reduce_all(tf.math.is_finite(matrices), axis=(-2, -1), keepdims=True)
    values = tf.cast(tf.where(finite, matrices, 0), tf.float64)  # the solver fails on others
    by_rows = columns is None or (rows is not None and rows <= columns)
    products = tf.matmul(values, values, transpose_a=not by_rows, transpose_b=by_rows)
    return tf.sqrt(tf.maximum(tf.linalg.eigvalsh(products), 0))


def value_and_gradients(function: Callable[[Watch], tuple[Any, Any, Sequence[Any]]]) -> tuple[Any, list[Any]]:
    """Gradients of a number with respect to tensors; zero for tensors on which it does not depend.

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
    """Random signs, -1.0 or 1.0, that only depend on the seed of each sample and the index.

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
