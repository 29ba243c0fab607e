"""Shows a difference as tables for a reviewer: layers, channels, config, values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import prod
from typing import Any

from toolz import keyfilter

from kerassurgery_fn.differences.changes import Changes, Stored
from kerassurgery_fn.values.tables import Table, spans

DERIVED = ("build_input_shape", "/layers/")  # parts of pointers to values that Keras derives from other values


def tables_of(difference: Changes) -> list[Table]:
    """One table for each kind of change in the difference. Values that Keras derives from other values, such as the
    shapes of tensors, are left out."""
    tables = [
        Table("layers", ("what", "layer", ""), tuple(_layers(difference))),
        Table("channels", ("layer", "channels", "without"), tuple(_channels(difference))),
        Table("config", ("layer", "field", "was", "is"), tuple(_config(difference))),
        Table("weights with new values", ("layer", "arrays", "elements", "moved"), tuple(_values(difference))),
    ]
    filled = [table for table in tables if table.rows]
    return filled or [Table("only derived values differ" if difference else "no difference", (), ())]


def _layers(difference: Changes) -> Iterator[tuple[str, str, str]]:
    for path in difference.removed:
        yield "removed", path, ""
    for path, record in difference.added.items():
        yield "added", path, record["class_name"]
    for path, source in difference.sources.items():
        same_name = path.rpartition("/")[2] == source.rpartition("/")[2]
        yield "moved" if same_name else "renamed", path, f"was {source}"
    yield from _rewired(difference)
    for path in difference.order:
        yield "order", path or "the model", "has other layers, or another order of layers"


def _rewired(difference: Changes) -> Iterator[tuple[str, str, str]]:
    """The layers that read other tensors than before. A layer that reads a renamed layer is not rewired."""
    for path, places in difference.changed.items():
        for pointer, (was, now) in places.items():
            if pointer.endswith("keras_history/0") and difference.sources.get(now, now) != was:
                yield "rewired", path, f"reads {now}, not {was}"
            elif pointer.startswith("/inbound_nodes") and isinstance(now, list):
                yield "rewired", path, "is called with other arguments"


def _channels(difference: Changes) -> Iterator[tuple[str, str, str]]:
    for address, index in difference.channels.items():
        picks = difference.pick(index)
        kept, lost = picks.positions, picks.lost.tolist()
        in_order = isinstance(picks.kept, str)
        without = spans(lost, 8) if in_order else f"reordered or new: {' '.join(map(str, kept[:12].tolist()))}"
        yield address, f"{picks.of} -> {len(kept)}", without


def _config(difference: Changes) -> Iterator[tuple[str, str, str, str]]:
    channel_counts = set(_channel_counts(difference))
    for path, places in difference.changed.items():
        for pointer, (was, now) in places.items():
            # The table of channels already shows the numbers of channels.
            if _is_shown(pointer) and not (type(now) is int and (path, was, now) in channel_counts):
                yield path or "the model", _field(pointer), _short(was), _short(now)
    for path, values in difference.appeared.items():
        for pointer, value in _with_one_compile_config(values).items():
            if _is_shown(pointer):
                yield path or "the model", _field(pointer), "-", _short(value)
    for path, values in difference.dropped.items():
        for pointer, value in _with_one_compile_config(values).items():
            if _is_shown(pointer):
                yield path or "the model", _field(pointer), _short(value), "-"


def _channel_counts(difference: Changes) -> Iterator[tuple[str, int, int]]:
    """The layers with changed channels, and the number of channels before and after."""
    for address, index in difference.channels.items():
        picks = difference.pick(index)
        yield address.rpartition(":")[0] or address, picks.of, len(picks.positions)


def _with_one_compile_config(values: Mapping[str, Any]) -> dict[str, Any]:
    """Fields by pointer. All fields of a `compile_config` become one field, whose value is the optimizer.

    >>> values = {"/compile_config/optimizer": {"class_name": "Adam"}, "/compile_config/loss": "mse", "/config/rate": 1}
    >>> _with_one_compile_config(values)
    {'/config/rate': 1, '/compile_config': {'class_name': 'Adam'}}
    """
    if (optimizer := values.get("/compile_config/optimizer")) is None:
        return dict(values)
    others = keyfilter(lambda pointer: not pointer.startswith("/compile_config/"), values)
    return {**others, "/compile_config": optimizer}


def _values(difference: Changes) -> Iterator[tuple[str, str, int, str]]:
    for path, pieces in difference.weights.items():
        stored = [piece for piece in pieces or () if isinstance(piece, Stored)]
        if pieces is None:
            yield path, "no weights any more", 0, ""
        elif stored:
            moves = [f"{piece.moved:.2%}" for piece in stored if piece.moved is not None]
            elements = sum(prod(piece.values.shape) for piece in stored)
            yield path, f"{len(stored)} of {len(pieces)}", elements, ", ".join(moves)


def _is_shown(pointer: str) -> bool:
    """Whether a place in a record has a value that Keras does not derive from other values."""
    return pointer.startswith(("/config/", "/compile_config", "/class_name")) and not any(
        part in pointer for part in DERIVED
    )


def _field(pointer: str) -> str:
    return pointer.removeprefix("/config/").replace("/", ".").removeprefix(".")


def _short(value: Any, most: int = 40) -> str:
    if isinstance(value, dict) and "class_name" in value:
        return str(value["class_name"])
    text = repr(value)
    return text if len(text) <= most else f"{text[:most]}..."
