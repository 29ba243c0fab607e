"""A difference in words, as a reviewer reads it: layers, channels, config, values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import prod
from typing import Any

from kerassurgery_fn.differences.changes import Changes, Stored
from kerassurgery_fn.values.tables import Table, spans


def tables_of(difference: Changes) -> list[Table]:
    """What differs: a table for each kind of difference that there is. Facts that Keras derives from others, such as
    the shapes of tensors, are left out."""
    made = [
        Table("layers", ("what", "layer", ""), tuple(_layers(difference))),
        Table("channels", ("layer", "channels", "without"), tuple(_channels(difference))),
        Table("config", ("layer", "field", "was", "is"), tuple(_config(difference))),
        Table("weights with new values", ("layer", "arrays", "elements", "moved"), tuple(_values(difference))),
    ]
    found = [table for table in made if table.rows]
    return found or [Table("no difference" if not difference else "derived facts alone differ", (), ())]


def _layers(difference: Changes) -> Iterator[tuple[str, str, str]]:
    for path in difference.removed:
        yield "removed", path, ""
    for path, record in difference.added.items():
        yield "added", path, record["class_name"]
    for path, source in difference.sources.items():
        yield ("renamed" if path.rpartition("/")[2] != source.rpartition("/")[2] else "moved"), path, f"was {source}"
    for path, places in difference.changed.items():
        for pointer, (was, now) in places.items():
            if pointer.endswith("keras_history/0") and difference.sources.get(now, now) != was:
                yield "rewired", path, f"reads {now}, not {was}"
            elif pointer.startswith("/inbound_nodes") and isinstance(now, list):
                yield "rewired", path, "is called otherwise"
    for path in difference.order:
        yield "order", path or "the model", "has other layers, or in another order"


def _channels(difference: Changes) -> Iterator[tuple[str, str, str]]:
    for address, index in difference.channels.items():
        picks = difference.pick(index)
        left, lost = picks.positions, picks.lost.tolist()
        ordered = isinstance(picks.kept, str)
        without = spans(lost, 8) if ordered else f"reordered or new: {' '.join(map(str, left[:12].tolist()))}"
        yield address, f"{picks.of} -> {len(left)}", without


def _config(difference: Changes) -> Iterator[tuple[str, str, str, str]]:
    counted = {
        (address.rpartition(":")[0] or address, picks.of, len(picks.positions))
        for address, index in difference.channels.items()
        for picks in [difference.pick(index)]
    }
    for path, places in difference.changed.items():
        for pointer, (was, now) in places.items():
            if _told(pointer) and not (type(now) is int and (path, was, now) in counted):
                yield path or "the model", _field(pointer), _short(was), _short(now)
    for what, came in ((difference.appeared, True), (difference.dropped, False)):
        for path, values in what.items():
            for pointer, value in _as_one(values).items():
                if _told(pointer):
                    was, now = ("-", _short(value)) if came else (_short(value), "-")
                    yield path or "the model", _field(pointer), was, now


def _as_one(values: Mapping[str, Any]) -> dict[str, Any]:
    """Fields that came or went, by their places; all that a model was compiled with as one, told by its optimizer.

    >>> _as_one({"/compile_config/optimizer": {"class_name": "Adam"}, "/compile_config/loss": "mse", "/config/rate": 1})
    {'/config/rate': 1, '/compile_config': {'class_name': 'Adam'}}
    """
    if (optimizer := values.get("/compile_config/optimizer")) is None:
        return dict(values)
    others = {pointer: value for pointer, value in values.items() if not pointer.startswith("/compile_config/")}
    return {**others, "/compile_config": optimizer}


def _values(difference: Changes) -> Iterator[tuple[str, str, int, str]]:
    for path, pieces in difference.weights.items():
        stored = [piece for piece in pieces or () if isinstance(piece, Stored)]
        if pieces is None:
            yield path, "none any more", 0, ""
        elif stored:
            moves = [f"{piece.moved:.2%}" for piece in stored if piece.moved is not None]
            elements = sum(prod(one.values.shape) for one in stored)
            yield path, f"{len(stored)} of {len(pieces)}", elements, ", ".join(moves)


def _told(pointer: str) -> bool:
    """Whether a place in a record says something that nothing else follows from."""
    return pointer.startswith(("/config/", "/compile_config", "/class_name")) and not any(
        word in pointer for word in ("build_input_shape", "/layers/")
    )


def _field(pointer: str) -> str:
    return pointer.removeprefix("/config/").replace("/", ".").removeprefix(".")


def _short(value: Any, most: int = 40) -> str:
    if isinstance(value, dict) and "class_name" in value:
        return str(value["class_name"])
    text = repr(value)
    return text if len(text) <= most else f"{text[:most]}..."
