"""Inception V3 for flowers, pruned round by round: score all convolutions, delete the most silent channels, re-train.

Each round deletes a share of the channels that the convolutions had at the start, those with the highest Average
Percentage of Zeros over all layers at once (Hu et al. 2016, arXiv:1607.03250), in one edit, and trains for an epoch.
After each round the model and a protocol are written; the same command again goes on where it was stopped.

It prunes what `inception_flowers_tune.py` has made, and makes that first if it is not there.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # before TensorFlow is imported, or it talks a lot

import keras
import numpy as np
import typer
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table
from toolz import pipe

from flowers import Flowers, batches, flowers
from inception_flowers_tune import compiled, fine_tune, inception, joined, quicken, save, train_top
from kerassurgery_fn import DeleteChannels, Snapshot, capture, cost, rebuild, score_by_apoz

console = Console()


@dataclass(frozen=True)
class Round:
    """What was measured after a round; accuracies on held-out flowers, before and after re-training."""

    number: int
    channels: int
    parameters: int
    macs: int
    before: float
    after: float


def convolutions(snapshot: Snapshot) -> list[str]:
    return [layer["name"] for layer in snapshot.config["layers"] if layer["class_name"] == "Conv2D"]


def channels_of(snapshot: Snapshot) -> dict[str, int]:
    """Number of channels of each convolution."""
    return {name: snapshot.weights[name][0].shape[-1] for name in convolutions(snapshot)}


def most_silent(scores: dict[str, np.ndarray], count: int, at_least: int) -> dict[str, list[int]]:
    """The `count` channels with the highest scores over all layers, of which each keeps `at_least` channels."""
    ranked = sorted(
        ((score, name, channel) for name, of in scores.items() for channel, score in enumerate(of)), reverse=True
    )
    room = {name: len(of) - at_least for name, of in scores.items()}
    chosen: dict[str, list[int]] = {}
    for _, name, channel in ranked:
        if count and len(chosen.get(name, [])) < room[name]:
            chosen.setdefault(name, []).append(channel)
            count -= 1
    return chosen


def prune(model: keras.Model, train: Flowers, count: int, batch: int) -> keras.Model:
    """The model without the `count` most silent channels of all its convolutions."""
    snapshot = capture(model)
    scores = score_by_apoz(snapshot, batches(train, batch), layers=convolutions(snapshot))
    return pipe(snapshot, DeleteChannels(most_silent(scores, count, at_least=8)), rebuild)


def measured(number: int, model: keras.Model, before: float, after: float) -> Round:
    snapshot = capture(model)
    total = cost(snapshot)
    return Round(number, sum(channels_of(snapshot).values()), total.parameters, total.macs, before, after)


def accuracy(model: keras.Model, held: Flowers, batch: int) -> float:
    return float(model.evaluate(held.images, held.labels, batch, verbose=0, return_dict=True)["accuracy"])


def tuned(path: Path, train: Flowers, held: Flowers, size: int, epochs: int, batch: int, download: bool) -> keras.Model:
    """The model that `inception_flowers_tune.py` saved, or one made as it makes it."""
    if path.exists():
        return keras.models.load_model(path)
    base = quicken(inception(size, pretrained=download))
    top, _ = train_top(base, train, held, 20, batch)
    model = joined(base, top)
    fine_tune(model, train, held, epochs, batch, 1e-4 if download else 1e-3)
    save(model, path)
    return model


def read_protocol(path: Path) -> list[Round]:
    return [Round(**entry) for entry in json.loads(path.read_text())] if path.exists() else []


def write_protocol(rounds: list[Round], path: Path) -> None:
    """The rounds as JSON, whole or not at all."""
    unfinished = path.with_name(f"unfinished_{path.name}")
    unfinished.write_text(json.dumps([asdict(one) for one in rounds], indent=1) + "\n")
    unfinished.replace(path)


def table_of(rounds: list[Round]) -> Table:
    table = Table(title="Inception V3 on flowers, pruned", caption="Accuracy on held-out flowers, by re-training.")
    for column in ("round", "channels", "parameters", "MACs", "before", "after"):
        table.add_column(column, justify="right")
    for one in rounds:
        table.add_row(
            str(one.number), f"{one.channels:,}", f"{one.parameters:,}", f"{one.macs / 1e6:,.0f} M",
            f"{100 * one.before:.1f} %", f"{100 * one.after:.1f} %",
        )  # fmt: skip
    return table


def plot(rounds: list[Round], path: Path) -> None:
    """Accuracy against the share of channels that is left."""
    left = [100 * one.channels / rounds[0].channels for one in rounds]
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    axes.plot(left, [100 * one.before for one in rounds], "o--", label="before re-training", markersize=3, alpha=0.6)
    axes.plot(left, [100 * one.after for one in rounds], "o-", label="after", markersize=3)
    axes.set(xlabel="channels left, %", ylabel="accuracy on held-out flowers, %", ylim=(0, 102))
    axes.invert_xaxis()
    axes.legend(loc="lower left")
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=150)


def main(
    out: Annotated[Path, typer.Option(help="Folder for models, protocol and plot.")] = Path("inception_flowers"),
    data_dir: Annotated[Path | None, typer.Option(help="Folder with a folder of photos for each kind.")] = None,
    download: Annotated[bool, typer.Option(help="Photos and ImageNet weights from the internet.")] = False,
    size: Annotated[int, typer.Option(help="Height and width of the images, 75 or more.")] = 75,
    each: Annotated[int, typer.Option(help="The most photos of each kind.")] = 60,
    step: Annotated[float | None, typer.Option(help="Share a round; 0.02 with photos, 0.1 with drawings.")] = None,
    until: Annotated[float, typer.Option(help="Share of the channels to prune in all.")] = 0.5,
    epochs: Annotated[int, typer.Option(help="Epochs of re-training a round.")] = 2,
    tune_epochs: Annotated[int, typer.Option(help="Epochs of training, where there is no model yet.")] = 6,
    batch: int = 25,
    seed: int = 0,
) -> None:
    """Prunes Inception V3 for flowers in rounds, over all convolutions at once."""
    keras.utils.set_random_seed(seed)
    out.mkdir(parents=True, exist_ok=True)
    train, held = flowers(size, each, seed, data_dir, download).split(seed)
    rounds = read_protocol(out / "prune.json")
    if rounds:
        console.print(f"going on after round {rounds[-1].number}")
        model = keras.models.load_model(out / f"round_{rounds[-1].number:02}.keras")
    else:
        model = tuned(out / "flowers.keras", train, held, size, tune_epochs, batch, download)
        start = accuracy(compiled(model, 1e-4), held, batch)
        rounds = [measured(0, model, start, start)]
    step = step or (0.02 if data_dir or download else 0.1)
    for number in range(rounds[-1].number + 1, round(until / step) + 1):
        model = compiled(prune(model, train, round(step * rounds[0].channels), batch), 1e-4 if download else 3e-4)
        before = accuracy(model, held, batch)
        model.fit(train.images, train.labels, batch, epochs, verbose=0)
        rounds.append(measured(number, model, before, accuracy(model, held, batch)))
        console.print(
            f"round {number}: {rounds[-1].channels:,} channels, accuracy {before:.3f} -> {rounds[-1].after:.3f}"
        )
        save(model, out / f"round_{number:02}.keras")
        write_protocol(rounds, out / "prune.json")
    console.print(table_of(rounds))
    plot(rounds, out / "prune.png")
    console.print(f"wrote {out / f'round_{rounds[-1].number:02}.keras'}, {out / 'prune.json'} and {out / 'prune.png'}")


if __name__ == "__main__":
    typer.run(main)
