"""Writes latency tables to JSON files, and reads them."""

from __future__ import annotations

import os
from typing import Any

from kerassurgery_fn.arguments import as_file, shortened, takes
from kerassurgery_fn.documents.plan_files import MAX_BYTES, dumps, loads, refuse_other_version
from kerassurgery_fn.documents.safe_files import read_limited, write_atomically
from kerassurgery_fn.errors import BadDocument, BadValue
from kerassurgery_fn.pruning.latency_tables import LatencyTable
from kerassurgery_fn.pruning.model_latency import as_latency_table

FORMAT, VERSION = "kerassurgery_fn latencies", 1


def encode_latencies(table: LatencyTable) -> dict[str, Any]:
    """A latency table as JSON-ready data: signature -> points (work, microseconds).

    >>> encode_latencies(LatencyTable({"Dense": [(100, 2.5)]}))["layers"]
    {'Dense': [[100, 2.5]]}
    """
    layers = {signature: [list(point) for point in points] for signature, points in table.items()}
    return {"format": FORMAT, "version": VERSION, "layers": layers}


def decode_latencies(data: Any, source: str = "$") -> LatencyTable:
    """The latency table from the data that `encode_latencies` returned.

    Raises:
        BadDocument: the data is not that of a latency table; the message names `source`.
        UnknownVersion: it has another version.
    """
    refuse_other_version(data, FORMAT, VERSION, "latencies", source)
    match data:
        case {"format": str(form), "layers": dict(layers)} if form == FORMAT:
            try:
                return LatencyTable(layers)
            except BadValue as error:
                raise BadDocument(f"{source}: {error}") from error
    raise BadDocument(f"{source}: expected latencies, a document with the format {FORMAT!r}, got {shortened(data)}")


@takes(latency_table=as_latency_table, path=as_file)
def save_latencies(latency_table: LatencyTable, path: str | os.PathLike[str]) -> None:
    """Writes a latency table to a JSON file.

    Raises:
        BadFile: the file cannot be written.
        BadValue: the value is not a `LatencyTable`.
    """
    write_atomically(path, dumps(encode_latencies(latency_table)).encode("utf-8"))


@takes(path=as_file)
def load_latencies(path: str | os.PathLike[str]) -> LatencyTable:
    """The latency table in a file that `save_latencies` wrote.

    Raises:
        BadFile: the file does not exist or cannot be read.
        BadDocument, UnknownVersion: it has no latency table.
    """
    return decode_latencies(loads(read_limited(path, MAX_BYTES), str(path)), str(path))
