"""What pruning buys: latency and file size of pruned models in Keras and in LiteRT."""

import os
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from statistics import median
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf
from networks import network
from timing import Settings, Times, in_turns, markdown, milliseconds, named

from kerassurgery_fn import prune

NAMES, SHARES, MULTIPLES = ("MobileNetV2", "ResNet50"), (1.0, 0.75, 0.5, 0.25), (1, 8)
IMAGE = np.random.default_rng(0).random((1, 224, 224, 3), "float32")


def converted(model: keras.Model, quantized: bool) -> bytes:
    """The model as a LiteRT file, with float32 or int8 arithmetic."""
    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    if quantized:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: iter([[IMAGE]])
    with redirect_stdout(StringIO()):  # Keras lists every variable
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


class Measured(NamedTuple):
    """A model as it is deployed: its network, the share of the MACs that is left, the multiple of its widths, the times
    of one image by the way of running it, and the sizes of its files in bytes."""

    network: str
    share: float
    multiple: int
    times: dict[str, Times]
    sizes: dict[str, int]


def measured(name: str, settings: Settings) -> Iterator[Measured]:
    """The network itself, and its pruned models."""
    whole = network(name)
    warnings.simplefilter("ignore")
    for share in SHARES:
        for multiple in MULTIPLES if share < 1 else MULTIPLES[:1]:
            model = prune(whole, macs=share, round_to=multiple).model if share < 1 else whole
            files = {"float32": converted(model, False), "int8": converted(model, True)}
            call = tf.function(model)
            subjects: dict[str, Callable[[], object]] = {"Keras": lambda call=call: call(IMAGE, training=False)}
            subjects |= {
                f"LiteRT {kind}, {threads} thread{'s' * (threads > 1)}": interpreted(content, threads)
                for kind, content in files.items()
                for threads in (1, 2)
            }
            sizes = {".keras": keras_size(model), **{f"LiteRT {kind}": len(content) for kind, content in files.items()}}
            yield Measured(name, share, multiple, in_turns(subjects, settings), sizes)


def row_of(one: Measured) -> list[str]:
    label = one.network if one.share == 1 else f"{one.network}, {one.share:.0%} of the MACs"
    return [
        label, str(one.multiple), *map(milliseconds, one.times.values()),
        *(f"{size / 1e6:.1f} MB" for size in one.sizes.values()),
    ]  # fmt: skip


def plot(models: Sequence[Measured], path: str) -> None:
    """Draws the latencies over the shares of the MACs: a panel for each network, a line for each way of running it;
    dashed where widths are multiples of 8."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    names = list(dict.fromkeys(one.network for one in models))
    figure, panels = pyplot.subplots(1, len(names), figsize=(6 * len(names), 4.5), squeeze=False)
    for panel, name in zip(panels[0], names, strict=True):
        own = [one for one in models if one.network == name]
        for number, way in enumerate(own[0].times):
            for multiple, style in zip(MULTIPLES, ("-", "--"), strict=True):
                line = [one for one in own if one.multiple == multiple or one.share == 1]
                shares, times = zip(*((one.share, 1000 * median(one.times[way])) for one in line), strict=True)
                label = way if multiple == 1 else None
                panel.plot(shares, times, style, marker="o", color=f"C{number}", label=label)
        panel.set(title=name, xlabel="share of the MACs", ylabel="milliseconds for an image", ylim=(0, None))
    panels[0][0].legend(title="dashed: widths are multiples of 8")
    figure.tight_layout()
    figure.savefig(path)


def main(settings: Settings) -> Iterator[str]:
    """The table of this benchmark; a plot, too, if the settings have a path for it."""
    models = [one for name in named(NAMES, settings) for one in measured(name, settings)]
    if settings.plot:
        plot(models, settings.plot)
    head = ["model", "round_to", *models[0].times, *models[0].sizes]
    yield markdown(head, list(map(row_of, models)))
