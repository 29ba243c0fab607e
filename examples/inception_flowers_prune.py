"""Inception V3 for flowers, pruned in rounds: score all convolutions, delete the channels with most zeros, train again.

Each round deletes a fixed share of the original channels in one edit: the channels with the highest Average Percentage
of Zeros over all layers (Hu et al. 2016, arXiv:1607.03250). Then the model is trained for some epochs. Each round
writes the model and a log; the same command continues an interrupted run.

The example prunes the model that `inception_flowers_tune.py` writes, and trains that model first if it is missing.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # silences the log; must be set before the import

import keras
import typer
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from flowers import Flowers, flowers
from inception_flowers_tune import compile_model, fine_tune, inception, join, save, shorten_batch_norm_memory, train_top
from kerassurgery_fn import capture, cost, groups, prune

console = Console()


@dataclass(frozen=True)
class Round:
    """The measurements of a round; `before` and `after` are validation accuracies before and after training."""

    number: int
    channels: int
    parameters: int
    macs: int
    before: float
    after: float


def without(model: keras.Model, count: int, train: Flowers, batch: int) -> keras.Model:
    """The model without the `count` channels of its convolutions that have the most zeros; each layer keeps eight."""
    channels = sum(len(group) for group in groups(capture(model)) if not group.pinned)
    return prune(
        model, by="apoz", data=train.images, batch_size=batch, channels=channels - count, ignore="top_*", min_channels=8
    ).model


def measure(number: int, model: keras.Model, before: float, after: float) -> Round:
    total = cost(capture(model))
    channels = sum(layer.filters for layer in model.layers if isinstance(layer, keras.layers.Conv2D))
    return Round(number, channels, total.parameters, total.macs, before, after)


def accuracy(model: keras.Model, validation: Flowers, batch: int) -> float:
    return float(model.evaluate(validation.images, validation.labels, batch, verbose=0, return_dict=True)["accuracy"])


def tuned_model(
    path: Path, train: Flowers, validation: Flowers, size: int, epochs: int, batch: int, download: bool
) -> keras.Model:
    """The model that `inception_flowers_tune.py` saved, or a new model trained in the same way."""
    if path.exists():
        return keras.models.load_model(path)
    base = shorten_batch_norm_memory(inception(size, pretrained=download))
    top, _ = train_top(base, train, validation, 20, batch)
    model = join(base, top)
    fine_tune(model, train, validation, epochs, batch, 1e-4 if download else 1e-3)
    save(model, path)
    return model


def read_log(path: Path) -> list[Round]:
    return [Round(**entry) for entry in json.loads(path.read_text())] if path.exists() else []


def write_log(rounds: list[Round], path: Path) -> None:
    """Writes the rounds as JSON. The file is replaced at the end, so an interrupted run leaves it complete."""
    unfinished = path.with_name(f"unfinished_{path.name}")
    unfinished.write_text(json.dumps([asdict(entry) for entry in rounds], indent=1) + "\n")
    unfinished.replace(path)


def table_of(rounds: list[Round]) -> Table:
    table = Table(title="Inception V3 on flowers, pruned", caption="Validation accuracy before and after training.")
    for column in ("round", "channels", "parameters", "MACs", "before", "after"):
        table.add_column(column, justify="right")
    for entry in rounds:
        table.add_row(
            str(entry.number), f"{entry.channels:,}", f"{entry.parameters:,}", f"{entry.macs / 1e6:,.0f} M",
            f"{100 * entry.before:.1f} %", f"{100 * entry.after:.1f} %",
        )  # fmt: skip
    return table


def plot(rounds: list[Round], path: Path) -> None:
    """Plots the accuracy over the share of channels that remain."""
    remaining = [100 * entry.channels / rounds[0].channels for entry in rounds]
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    axes.plot(
        remaining, [100 * entry.before for entry in rounds], "o--", label="before training", markersize=3, alpha=0.6
    )
    axes.plot(remaining, [100 * entry.after for entry in rounds], "o-", label="after training", markersize=3)
    axes.set(xlabel="remaining channels, %", ylabel="validation accuracy, %", ylim=(0, 102))
    axes.invert_xaxis()
    axes.legend(loc="lower left")
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=150)


def main(
    out: Annotated[Path, typer.Option(help="Folder for the models, the log and the plot.")] = Path("inception_flowers"),
    data_dir: Annotated[Path | None, typer.Option(help="Folder with a subfolder of photos for each kind.")] = None,
    download: Annotated[bool, typer.Option(help="Download photos and ImageNet weights.")] = False,
    size: Annotated[int, typer.Option(help="Height and width of the images, 75 or more.")] = 75,
    each: Annotated[int, typer.Option(help="Maximum number of photos per kind.")] = 60,
    step: Annotated[
        float | None, typer.Option(help="Share per round; by default 0.02 for photos, 0.1 for drawings.")
    ] = None,
    until: Annotated[float, typer.Option(help="Share of channels to prune in total.")] = 0.5,
    epochs: Annotated[int, typer.Option(help="Epochs of training after each round.")] = 2,
    tune_epochs: Annotated[int, typer.Option(help="Epochs of fine-tuning, if there is no model yet.")] = 6,
    batch: int = 25,
    seed: int = 0,
) -> None:
    """Prunes all convolutions of Inception V3 for flowers, in rounds."""
    keras.utils.set_random_seed(seed)
    out.mkdir(parents=True, exist_ok=True)
    train, validation = flowers(size, each, seed, data_dir, download).split(seed)
    rounds = read_log(out / "prune.json")
    if rounds:
        console.print(f"continuing after round {rounds[-1].number}")
        model = keras.models.load_model(out / f"round_{rounds[-1].number:02}.keras")
    else:
        model = tuned_model(out / "flowers.keras", train, validation, size, tune_epochs, batch, download)
        start = accuracy(compile_model(model, 1e-4), validation, batch)
        rounds = [measure(0, model, start, start)]
    step = step or (0.02 if data_dir or download else 0.1)
    for number in range(rounds[-1].number + 1, round(until / step) + 1):
        model = compile_model(
            without(model, round(step * rounds[0].channels), train, batch), 1e-4 if download else 3e-4
        )
        before = accuracy(model, validation, batch)
        model.fit(train.images, train.labels, batch, epochs, verbose=0)
        rounds.append(measure(number, model, before, accuracy(model, validation, batch)))
        console.print(
            f"round {number}: {rounds[-1].channels:,} channels, accuracy {before:.3f} -> {rounds[-1].after:.3f}"
        )
        save(model, out / f"round_{number:02}.keras")
        write_log(rounds, out / "prune.json")
    console.print(table_of(rounds))
    plot(rounds, out / "prune.png")
    console.print(f"wrote {out / f'round_{rounds[-1].number:02}.keras'}, {out / 'prune.json'} and {out / 'prune.png'}")


if __name__ == "__main__":
    typer.run(main)
