"""What pruning buys: latency and file size of pruned models in Keras and in LiteRT."""

import os
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from networks import network
from timing import Settings, in_turns, markdown, milliseconds

from kerassurgery_fn import prune

NAMES, SHARES, MULTIPLES = ("MobileNetV2", "ResNet50"), (None, 0.75, 0.5, 0.25), (1, 8)
IMAGE = np.random.default_rng(0).random((1, 224, 224, 3), "float32")


def converted(model: keras.Model, quantized: bool) -> bytes:
    """The model as a LiteRT file, with float32 or int8 arithmetic."""
    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    if quantized:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: iter([[IMAGE]])
    return converter.convert()


def interpreted(content: bytes, threads: int) -> Callable[[], object]:
    """A function that runs a LiteRT model on one image."""
    interpreter = tf.lite.Interpreter(model_content=content, num_threads=threads)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], IMAGE)
    return interpreter.invoke


def keras_size(model: keras.Model) -> int:
    """The size of the `.keras` file in bytes."""
    with tempfile.TemporaryDirectory() as folder:
        model.save(path := Path(folder) / "model.keras")
        return os.path.getsize(path)


def rows_of(name: str, settings: Settings) -> Iterator[list[str]]:
    """A row for each share of the MACs and each multiple of the widths."""
    whole = network(name)
    warnings.simplefilter("ignore")
    for share in SHARES:
        for multiple in MULTIPLES if share else MULTIPLES[:1]:
            model = prune(whole, macs=share, round_to=multiple) if share else whole
            files = {"float32": converted(model, False), "int8": converted(model, True)}
            call = tf.function(model)
            subjects: dict[str, Callable[[], object]] = {"Keras": lambda call=call: call(IMAGE, training=False)}
            subjects |= {
                f"LiteRT {kind}, {threads}": interpreted(content, threads)
                for kind, content in files.items()
                for threads in (1, 2)
            }
            times = in_turns(subjects, settings)
            sizes = [keras_size(model), *map(len, files.values())]
            label = f"{name}, {share:.0%} of the MACs" if share else name
            yield [label, str(multiple), *map(milliseconds, times.values()), *(f"{n / 1e6:.1f} MB" for n in sizes)]


def main(settings: Settings) -> Iterator[str]:
    """The table of this benchmark."""
    ways = ["Keras", *(f"LiteRT {kind}, {threads} threads" for kind in ("float32", "int8") for threads in (1, 2))]
    head = ["model", "round_to", *ways, ".keras", "LiteRT float32", "LiteRT int8"]
    yield markdown(head, [row for name in NAMES for row in rows_of(name, settings)])
