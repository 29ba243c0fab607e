"""Runs small models again and again to measure how long they take: in LiteRT, or in Keras.

All code that depends on LiteRT is here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import perf_counter_ns
from typing import Any

import keras
import numpy as np

from kerassurgery_fn.arguments import one_of
from kerassurgery_fn.errors import SurgeryError
from kerassurgery_fn.measure.backend_functions import compiled_call

Run = Callable[[], object]  # one inference
RUNTIMES = ("litert", "keras")
INPUT = "input_"  # the start of the name of an input of a converted model; its number follows
WARM_UP = 3  # runs before the first that counts


def as_runtime(value: Any, name: str = "runtime") -> str:
    """The name of a runtime; by default `litert` where it is installed, and `keras` otherwise.

    Raises:
        BadValue: there is no such runtime.
        SurgeryError: it is not installed.
    """
    if value is None:
        return "keras" if why_no_litert() else "litert"
    runtime = one_of(RUNTIMES)(value, name)
    if runtime == "litert" and (reason := why_no_litert()):
        raise SurgeryError(f"{name}='litert' {reason}; {name}='keras' runs layers in Keras")
    return runtime


def why_no_litert() -> str:
    """Why models cannot be run in LiteRT; empty if they can."""
    if keras.backend.backend() != "tensorflow":
        return f"needs TensorFlow to convert models, and Keras runs on {keras.backend.backend()!r}"
    return "" if interpreter_class() else "is not installed: pip install ai-edge-litert"


def interpreter_class() -> Any:
    """The interpreter of LiteRT, or of the TensorFlow Lite that is a part of TensorFlow; None if there is none."""
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError:
        import tensorflow as tf

        return getattr(getattr(tf, "lite", None), "Interpreter", None)
    return Interpreter


def runner(model: keras.Model, runtime: str, threads: int) -> Run:
    """A function that runs a model once, on random inputs.

    Args:
        model: a model whose inputs have fixed shapes.
        runtime: one of `RUNTIMES`.
        threads: the number of threads of LiteRT.

    Raises:
        Exception: the runtime cannot convert or run the model.
    """
    inputs = [random_input(tensor.shape, tensor.dtype) for tensor in model.inputs]
    if runtime == "litert":
        return lite_runner(converted(model), inputs, threads)
    run, tensors = compiled_call(model), keras.tree.map_structure(keras.ops.convert_to_tensor, inputs)
    return lambda: run(tensors)


def random_input(shape: Sequence[int], dtype: str) -> np.ndarray:
    """A random array of floats; zeros of other types, which are indices or flags."""
    if "float" not in dtype:
        return np.zeros(shape, dtype)
    values = np.random.default_rng(0).normal(size=shape).astype("float32")
    return np.asarray(keras.ops.convert_to_numpy(keras.ops.cast(values, dtype)))


def converted(model: keras.Model) -> bytes:
    """A model as a file of TensorFlow Lite. Its weights are constants, so that layers can be computed together."""
    import tensorflow as tf

    weights = [
        [tf.constant(weight.numpy()) for weight in some]
        for some in (model.trainable_variables, model.non_trainable_variables)
    ]

    def call(*inputs: Any) -> Any:
        return model.stateless_call(*weights, list(inputs), training=False)[0]

    specs = [tf.TensorSpec(x.shape, x.dtype, f"{INPUT}{number}") for number, x in enumerate(model.inputs)]
    function = tf.function(call, autograph=False).get_concrete_function(*specs)
    return tf.lite.TFLiteConverter.from_concrete_functions([function], tf.Module()).convert()


def lite_runner(content: bytes, inputs: Sequence[np.ndarray], threads: int) -> Run:
    """A function that runs a model of TensorFlow Lite once."""
    interpreter = interpreter_class()(model_content=content, num_threads=threads)
    interpreter.allocate_tensors()
    for details in interpreter.get_input_details():  # in any order, and without inputs that are not used
        number = int(details["name"].rpartition(INPUT)[2].partition(":")[0])
        interpreter.set_tensor(details["index"], inputs[number])
    return interpreter.invoke


def timed(runs: Sequence[Run], repeats: int) -> tuple[list[float], list[float]]:
    """The time of each function, and how far its times are spread, in microseconds.

    The functions take turns, so that a busy moment of the machine does not fall on one of them. Other programs only add
    time, so the lower quartile counts: the median of the faster half. The spread is its distance to the median.
    """
    times = np.zeros((repeats, len(runs)))
    for run in runs:
        for _ in range(WARM_UP):
            run()
    for row in times:
        for place, run in enumerate(runs):
            start = perf_counter_ns()
            run()
            row[place] = perf_counter_ns() - start
    low, median = np.percentile(times / 1000, (25, 50), axis=0)
    return low.tolist(), (median - low).tolist()
