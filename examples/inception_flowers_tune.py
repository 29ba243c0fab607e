"""Inception V3 learns to classify flowers: bottleneck features, a top model, then fine-tuning of the upper blocks.

The network without its head computes features of all photos once. A small top model is trained on these features,
which takes seconds. Then both are joined, and the upper blocks are trained at a low learning rate.

`--download` starts from ImageNet weights and the photos of TensorFlow's tutorials, `--data-dir` uses your photos. By
default, the example uses generated drawings and random weights, so it runs without a network connection; its accuracy
then says nothing about Inception.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # silences the log; must be set before the import

import keras
import typer
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from flowers import Flowers, flowers

console = Console()


def inception(size: int, pretrained: bool) -> keras.Model:
    """Inception V3 without its head, with global average pooling: 2,048 features."""
    weights = "imagenet" if pretrained else None
    return keras.applications.InceptionV3(
        include_top=False, weights=weights, input_shape=(size, size, 3), pooling="avg"
    )


def top_model(kinds: int) -> keras.Model:
    """The new head: from bottleneck features to kinds of flowers."""
    return keras.Sequential(
        [
            keras.Input((2048,)),
            keras.layers.Dense(256, activation="relu", name="top_dense"),
            keras.layers.Dropout(0.5, name="top_dropout"),
            keras.layers.Dense(kinds, activation="softmax", name="top_kinds"),
        ],
        name="top",
    )


def join(base: keras.Model, top: keras.Model) -> keras.Model:
    """A flat model of the base and the layers of the top model."""
    x = base.output
    for layer in top.layers:
        x = layer(x)
    return keras.Model(base.input, x, name="inception_flowers")


def compile_model(model: keras.Model, rate: float) -> keras.Model:
    model.compile(keras.optimizers.Adam(rate), "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def freeze_up_to(model: keras.Model, name: str) -> None:
    """Freezes all layers up to the named layer. Frozen batch norms keep their statistics."""
    names = [layer.name for layer in model.layers]
    for layer in model.layers[: names.index(name) + 1]:
        layer.trainable = False


def shorten_batch_norm_memory(model: keras.Model, momentum: float = 0.8) -> keras.Model:
    """Lowers the momentum of batch norms: with few batches, the default averages statistics over too many of them."""
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = momentum
    return model


def train_top(
    base: keras.Model, train: Flowers, validation: Flowers, epochs: int, batch: int
) -> tuple[keras.Model, dict]:
    """The top model, trained on precomputed bottleneck features, and its training history."""
    features, validation_features = (
        base.predict(part.images, batch_size=batch, verbose=0) for part in (train, validation)
    )
    top = compile_model(top_model(len(train.kinds)), 1e-3)
    history = top.fit(
        features, train.labels, batch, epochs, verbose=0, validation_data=(validation_features, validation.labels)
    ).history
    return top, history


def fine_tune(model: keras.Model, train: Flowers, validation: Flowers, epochs: int, batch: int, rate: float) -> dict:
    """Trains the layers that are not frozen and returns the training history."""
    history = compile_model(model, rate).fit(
        train.images, train.labels, batch, epochs, verbose=2, validation_data=(validation.images, validation.labels)
    )
    return history.history


def plot(stages: dict[str, dict], path: Path) -> None:
    """Plots the validation accuracy over the epochs of all stages."""
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    start = 1
    for name, history in stages.items():
        epochs = range(start, start + len(history["val_accuracy"]))
        axes.plot(epochs, history["val_accuracy"], "o-", label=name, markersize=3)
        start += len(epochs)
    axes.set(xlabel="epoch", ylabel="validation accuracy", ylim=(0, 1.02))
    axes.legend(loc="lower right")
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=150)


def table_of(stages: dict[str, dict]) -> Table:
    table = Table(title="Inception V3 on flowers")
    for column in ("stage", "epochs", "accuracy", "validation accuracy"):
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
    data_dir: Annotated[Path | None, typer.Option(help="Folder with a subfolder of photos for each kind.")] = None,
    download: Annotated[bool, typer.Option(help="Download photos and ImageNet weights.")] = False,
    size: Annotated[int, typer.Option(help="Height and width of the images, 75 or more.")] = 75,
    each: Annotated[int, typer.Option(help="Maximum number of photos per kind.")] = 60,
    top_epochs: int = 20,
    epochs: Annotated[int, typer.Option(help="Epochs of fine-tuning.")] = 6,
    unfreeze: Annotated[
        str, typer.Option(help="With pretrained weights: train the layers after this layer.")
    ] = "mixed7",
    batch: int = 25,
    seed: int = 0,
) -> None:
    """Trains Inception V3 on flowers in two stages, and writes the model and a plot of its accuracy."""
    keras.utils.set_random_seed(seed)
    out.mkdir(parents=True, exist_ok=True)
    train, validation = flowers(size, each, seed, data_dir, download).split(seed)
    console.print(
        f"{len(train.labels)} training and {len(validation.labels)} validation images: {', '.join(train.kinds)}"
    )
    base = shorten_batch_norm_memory(inception(size, pretrained=download))
    with console.status("training the top model on bottleneck features"):
        top, first = train_top(base, train, validation, top_epochs, batch)
    model = join(base, top)
    if download:
        freeze_up_to(model, unfreeze)
    second = fine_tune(model, train, validation, epochs, batch, 1e-4 if download else 1e-3)
    stages = {"top model": first, "fine-tuning": second}
    console.print(table_of(stages))
    plot(stages, out / "tune.png")
    save(model, out / "flowers.keras")
    console.print(f"wrote {out / 'flowers.keras'} and {out / 'tune.png'}")


if __name__ == "__main__":
    typer.run(main)
