"""Inception V3 learns to tell flowers apart: bottleneck features, a top model, then fine-tuning of the upper blocks.

The headless network is run once over all photos; a small top model is trained on what it makes of them, which takes
seconds; then both are joined and the upper blocks are trained along at a low rate.

With `--download` it starts from the weights for ImageNet and the photos of TensorFlow's tutorials, with `--data-dir`
from photos on disk. By default it draws its flowers itself and starts from random weights, so that it runs anywhere;
what it reaches then says nothing about Inception.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # before TensorFlow is imported, or it talks a lot

import keras
import typer
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from flowers import Flowers, flowers

console = Console()


def inception(size: int, pretrained: bool) -> keras.Model:
    """Inception V3 without its head, averaged over space: 2,048 features."""
    weights = "imagenet" if pretrained else None
    return keras.applications.InceptionV3(
        include_top=False, weights=weights, input_shape=(size, size, 3), pooling="avg"
    )


def top_model(kinds: int) -> keras.Model:
    """The head: from bottleneck features to kinds of flowers."""
    return keras.Sequential(
        [
            keras.Input((2048,)),
            keras.layers.Dense(256, activation="relu", name="top_dense"),
            keras.layers.Dropout(0.5, name="top_dropout"),
            keras.layers.Dense(kinds, activation="softmax", name="top_kinds"),
        ],
        name="top",
    )


def joined(base: keras.Model, top: keras.Model) -> keras.Model:
    """One flat model of the base and the layers of the top."""
    x = base.output
    for layer in top.layers:
        x = layer(x)
    return keras.Model(base.input, x, name="inception_flowers")


def compiled(model: keras.Model, rate: float) -> keras.Model:
    model.compile(keras.optimizers.Adam(rate), "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def freeze_up_to(model: keras.Model, name: str) -> None:
    """Only layers behind the named one are trained. Batch norms before it keep their statistics."""
    names = [layer.name for layer in model.layers]
    for layer in model.layers[: names.index(name) + 1]:
        layer.trainable = False


def quicken(model: keras.Model, momentum: float = 0.8) -> keras.Model:
    """Batch norms that follow a few batches already: with little data their usual momentum takes too long."""
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = momentum
    return model


def train_top(base: keras.Model, train: Flowers, held: Flowers, epochs: int, batch: int) -> tuple[keras.Model, dict]:
    """The top model, trained on bottleneck features that are computed once, and the history of its training."""
    features, held_features = (base.predict(part.images, batch_size=batch, verbose=0) for part in (train, held))
    top = compiled(top_model(len(train.kinds)), 1e-3)
    history = top.fit(
        features, train.labels, batch, epochs, verbose=0, validation_data=(held_features, held.labels)
    ).history
    return top, history


def fine_tune(model: keras.Model, train: Flowers, held: Flowers, epochs: int, batch: int, rate: float) -> dict:
    """The history of training all that is not frozen."""
    history = compiled(model, rate).fit(
        train.images, train.labels, batch, epochs, verbose=2, validation_data=(held.images, held.labels)
    )
    return history.history


def plot(stages: dict[str, dict], path: Path) -> None:
    """Accuracy on held-out flowers over the epochs of all stages."""
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    start = 1
    for name, history in stages.items():
        epochs = range(start, start + len(history["val_accuracy"]))
        axes.plot(epochs, history["val_accuracy"], "o-", label=name, markersize=3)
        start += len(epochs)
    axes.set(xlabel="epoch", ylabel="accuracy on held-out flowers", ylim=(0, 1.02))
    axes.legend(loc="lower right")
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=150)


def table_of(stages: dict[str, dict]) -> Table:
    table = Table(title="Inception V3 on flowers")
    for column in ("stage", "epochs", "accuracy", "held-out accuracy"):
        table.add_column(column, justify="left" if column == "stage" else "right")
    for name, history in stages.items():
        last = [f"{100 * history[key][-1]:.1f} %" for key in ("accuracy", "val_accuracy")]
        table.add_row(name, str(len(history["accuracy"])), *last)
    return table


def save(model: keras.Model, path: Path) -> None:
    """The model in a Keras file, whole or not at all."""
    unfinished = path.with_name(f"unfinished_{path.name}")
    model.save(unfinished)
    unfinished.replace(path)


def main(
    out: Annotated[Path, typer.Option(help="Folder for the model and the plot.")] = Path("inception_flowers"),
    data_dir: Annotated[Path | None, typer.Option(help="Folder with a folder of photos for each kind.")] = None,
    download: Annotated[bool, typer.Option(help="Photos and ImageNet weights from the internet.")] = False,
    size: Annotated[int, typer.Option(help="Height and width of the images, 75 or more.")] = 75,
    each: Annotated[int, typer.Option(help="The most photos of each kind.")] = 60,
    top_epochs: int = 20,
    epochs: Annotated[int, typer.Option(help="Epochs of fine-tuning.")] = 6,
    unfreeze: Annotated[
        str, typer.Option(help="Train what comes behind this layer, with pretrained weights.")
    ] = "mixed7",
    batch: int = 25,
    seed: int = 0,
) -> None:
    """Trains Inception V3 on flowers in two stages and writes the model and a plot of its training."""
    keras.utils.set_random_seed(seed)
    out.mkdir(parents=True, exist_ok=True)
    train, held = flowers(size, each, seed, data_dir, download).split(seed)
    console.print(f"{len(train.labels)} flowers to train on, {len(held.labels)} held out: {', '.join(train.kinds)}")
    base = quicken(inception(size, pretrained=download))
    with console.status("bottleneck features and top model"):
        top, first = train_top(base, train, held, top_epochs, batch)
    model = joined(base, top)
    if download:
        freeze_up_to(model, unfreeze)
    second = fine_tune(model, train, held, epochs, batch, 1e-4 if download else 1e-3)
    stages = {"top model": first, "fine-tuning": second}
    console.print(table_of(stages))
    plot(stages, out / "tune.png")
    save(model, out / "flowers.keras")
    console.print(f"wrote {out / 'flowers.keras'} and {out / 'tune.png'}")


if __name__ == "__main__":
    typer.run(main)
