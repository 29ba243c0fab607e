"""Statistics in files: numpy's .npz, with every bit."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from kerassurgery_fn.arguments import as_file, shortened, takes
from kerassurgery_fn.documents.npz_files import entries_of_npz, write_npz
from kerassurgery_fn.documents.safe_files import read_limited
from kerassurgery_fn.errors import BadDocument, BadValue, UnknownVersion
from kerassurgery_fn.pruning.channel_statistics import RECORDS, ChannelStatistics
from kerassurgery_fn.pruning.summed_arrays import KINDS, SummedArrays

Statistics = ChannelStatistics | SummedArrays
FORMAT, VERSION = "kerassurgery_fn statistics", 1
PREFIX = "arrays/"  # so that no layer can have the name of an entry of the head
MAX_BYTES = 1 << 33
CLASSES: dict[str, type[Any]] = {**dict.fromkeys(RECORDS, ChannelStatistics), **dict.fromkeys(KINDS, SummedArrays)}


def as_statistics(value: Any, name: str = "statistics") -> Statistics:
    """The statistics.

    Raises:
        BadValue: the value is not statistics.
    """
    if isinstance(value, ChannelStatistics | SummedArrays):
        return value
    raise BadValue(
        f"{name}: expected statistics of data, got {shortened(value)}; measure_statistics(model, data) gives them"
    )


@takes(statistics=as_statistics, path=as_file)
def save_statistics(statistics: Statistics, path: str | os.PathLike[str]) -> None:
    """Writes statistics of data to a file in numpy's .npz format, whatever its name.

    Raises:
        BadFile: the file cannot be written.
        BadValue: the value is not statistics.
    """
    arrays = {f"{PREFIX}{name}": array for name, array in statistics.arrays().items()}
    head = {"format": FORMAT, "version": VERSION, "kind": statistics.kind, "samples": statistics.samples}
    write_npz(path, {**head, **arrays})


@takes(path=as_file)
def load_statistics(path: str | os.PathLike[str]) -> Statistics:
    """The statistics in a file that `save_statistics` wrote.

    Raises:
        BadFile: the file does not exist or cannot be read.
        BadDocument, UnknownVersion: it does not have statistics.
    """
    return _decoded(entries_of_npz(read_limited(path, MAX_BYTES), path, "statistics"), str(path))


def _decoded(entries: Mapping[str, np.ndarray], source: str) -> Statistics:
    match {name: array.item() for name, array in entries.items() if array.ndim == 0 and not name.startswith(PREFIX)}:
        case {"format": str(form), "version": version, "kind": str(kind), "samples": int(samples)} if form == FORMAT:
            if version != VERSION or kind not in CLASSES:
                raise UnknownVersion(f"{source}: this library cannot read version {version} of statistics of {kind!r}")
        case _:
            raise BadDocument(f"{source}: the file has no statistics; save_statistics writes them")
    arrays = {name.removeprefix(PREFIX): array for name, array in entries.items() if name.startswith(PREFIX)}
    try:
        return CLASSES[kind].from_arrays(kind, arrays, samples)
    except (KeyError, TypeError, ValueError) as error:
        raise BadDocument(f"{source}: the arrays are not those of {kind} ({error})") from error
