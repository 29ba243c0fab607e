"""Compiled functions, gradients and ranks. All code that depends on the backend of Keras is here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import keras
import numpy as np

from kerassurgery_fn.errors import SurgeryError

Watch = Callable[[Any], None]
EPSILON = float(np.finfo("float32").eps)


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


def matrix_ranks(matrices: Any) -> Any:
    """The rank of each matrix of float32: the number of its singular values that exceed rounding, as for
    `numpy.linalg.matrix_rank`. The rank of a matrix with numbers that are not finite is zero.

    With TensorFlow, the first axis is read one by one, so that copies in float64 take little memory.

    Args:
        matrices: shape (n, ..., rows, columns).

    Returns:
        int32, shape (n, ...).
    """
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return tf.map_fn(_ranks, matrices, fn_output_signature=tf.int32)
    ops = keras.ops
    finite = ops.all(ops.isfinite(matrices), axis=(-2, -1), keepdims=True)
    sizes = ops.svd(ops.where(finite, matrices, 0), compute_uv=False)
    rounding = ops.cast(ops.max(ops.shape(matrices)[-2:]), sizes.dtype) * EPSILON
    return ops.sum(ops.cast(sizes > rounding * ops.max(sizes, axis=-1, keepdims=True), "int32"), axis=-1)


def _ranks(matrices: Any) -> Any:
    """The ranks of matrices by TensorFlow, shape (..., rows, columns) -> (...)."""
    import tensorflow as tf

    shape = tf.shape(matrices)
    ranks = _traced_ranks()(*_products(tf.reshape(matrices, tf.concat([[-1], shape[-2:]], 0))))
    return tf.reshape(ranks, shape[:-2])


@cache
def _traced_ranks() -> Callable[..., Any]:
    """`ranks_of_products` as one graph that all layers of all models share."""
    import tensorflow as tf

    specs = tf.TensorSpec([None, None, None], tf.float64), tf.TensorSpec([], tf.float64)
    return tf.function(ranks_of_products, input_signature=specs, autograph=False)


def ranks_of_products(products: Any, rounding: Any) -> Any:
    """The ranks of matrices by their products with their transposes, by TensorFlow.

    The squares of the singular values are the eigenvalues e of the product G. The rank is the number of eigenvalues
    above a threshold, which is a small share of the largest one. Eigenvalues are expensive. A factorisation of G + t I
    by Cholesky takes a small part of the time, and its inverse tells how many eigenvalues are below t, if none is near
    t: the eigenvalues of t (G + t I)^-1 are p = t / (e + t), about 1 for e far below t, and about 0 for e far above t.

        eigenvalues of G    9   4   2   0      the trace of t (G + t I)^-1 is about 1: the rank is n - 1
        p, for t = 0.01     0   0   0   1

    The largest eigenvalue is between the trace of G and its n-th part, so that the threshold is between t and t / n for
    a t that follows from the trace. The sum of p (1 - p) is below n / (n + 1)^2 only if no eigenvalue is between t / n
    and n t. Then, the rank is certain. For the other matrices, eigenvalues are computed.

    Args:
        products: float64, shape (m, n, n).
        rounding: the share of the largest eigenvalue up to which eigenvalues count as zero.

    Returns:
        int32, shape (m,).
    """
    import tensorflow as tf

    n = tf.shape(products)[-1]
    size = tf.cast(n, tf.float64)
    trace = tf.linalg.trace(products)
    shift = tf.where(trace > 0, trace * rounding, 1)  # of a matrix of zeros, all p are 1
    identity = tf.eye(n, dtype=tf.float64)
    factors = tf.linalg.cholesky(products + shift[:, None, None] * identity)
    inverses = tf.linalg.triangular_solve(factors, tf.broadcast_to(identity, tf.shape(factors)))
    below = shift * tf.reduce_sum(inverses**2, axis=(-2, -1))  # the sum of p
    certain = size / (size + 1) ** 2
    ranks = n - tf.cast(tf.round(below), tf.int32)

    where = tf.where(below >= certain)  # for the others, the sum of p (1 - p) is less, too
    some = tf.gather(inverses, where[:, 0])
    squares = tf.gather(shift, where[:, 0]) ** 2 * tf.reduce_sum(tf.matmul(some, some, transpose_a=True) ** 2, (-2, -1))
    where = tf.boolean_mask(where, tf.gather(below, where[:, 0]) - squares >= certain)
    eigenvalues = tf.linalg.eigvalsh(tf.gather(products, where[:, 0]))
    above = eigenvalues > rounding * eigenvalues[:, -1:]
    return tf.tensor_scatter_nd_update(ranks, where, tf.reduce_sum(tf.cast(above, tf.int32), -1))


def _products(matrices: Any) -> tuple[Any, Any]:
    """The products of matrices with their transposes in float64, of the smaller size, and the share of the largest
    eigenvalue that is due to rounding. Products of matrices with numbers that are not finite are zero."""
    import tensorflow as tf

    finite = tf.reduce_all(tf.math.is_finite(matrices), axis=(-2, -1), keepdims=True)
    values = tf.cast(tf.where(finite, matrices, 0), tf.float64)  # the solvers fail on others
    rows, columns = matrices.shape[-2:]
    by_rows = columns is None or (rows is not None and rows <= columns)
    products = tf.matmul(values, values, transpose_a=not by_rows, transpose_b=by_rows)
    longest = tf.cast(tf.reduce_max(tf.shape(matrices)[-2:]), tf.float64)
    return products, (longest * EPSILON) ** 2


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
