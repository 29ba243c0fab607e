"""Data for criteria in files: arrays of numpy in an .npz file, or in a folder of such files. Needs no Keras."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np
from toolz import keyfilter

from kerassurgery_fn.arguments import counted
from kerassurgery_fn.errors import BadData, BadFile

TARGETS = ("y", "weights")  # the other arrays of a file are inputs
SAMPLES = 32  # in a batch of a folder


def read_data(path: str | os.PathLike[str]) -> Any:
    """The data in a file or folder, as criteria read it.

    An `.npz` file has the array `x`, or an array for each input by its name; targets `y` and sample `weights` if the
    criterion needs them. The files of a folder are read one after the other: one of them is in memory at a time.

        np.savez("data.npz", x=images, y=labels)

    Raises:
        BadFile: the file does not exist, or is not such a file.
        BadData: it has no inputs, or a folder has no such file.
    """
    path = Path(path)
    if not path.is_dir():
        return _read(path)
    files = sorted(path.glob("*.npz"))
    if not files:
        raise BadData(f"{path} has no .npz file; np.savez('data.npz', x=images, y=labels) writes one")
    return (batch for file in files for batch in _batches(_read(file)))


def _read(path: Path) -> tuple[Any, ...]:
    """The inputs, targets and sample weights of a file."""
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays: Mapping[str, np.ndarray] = dict(file)
    except Exception as error:  # zipfile and numpy raise many kinds of errors on broken files
        raise BadFile(f"{path} is no .npz file of arrays ({type(error).__name__}: {error})") from error
    inputs = keyfilter(lambda name: name not in TARGETS, arrays)
    if not inputs:
        raise BadData(
            f"{path} has {counted(len(arrays), 'array')} ({', '.join(arrays)}), and none of inputs: name it x, or by "
            "the model's inputs"
        )
    x = inputs["x"] if {*inputs} == {"x"} else inputs
    return (x, *(arrays[name] for name in takewhile(arrays.__contains__, TARGETS)))


def _batches(data: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
    """The data of a file in batches."""
    x = data[0]
    samples = len(x if isinstance(x, np.ndarray) else next(iter(x.values())))
    for start in range(0, samples, SAMPLES):
        yield tuple(_slice(part, slice(start, start + SAMPLES)) for part in data)


def _slice(part: Any, where: slice) -> Any:
    return part[where] if isinstance(part, np.ndarray) else {name: array[where] for name, array in part.items()}
