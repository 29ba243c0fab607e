"""The latency of a model by a latency table: the sum over the calls of its layers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from kerassurgery_fn.analysis.input_shapes import Shapes, as_shapes
from kerassurgery_fn.arguments import as_snapshot, counted, optional, shortened, takes
from kerassurgery_fn.errors import BadValue
from kerassurgery_fn.pruning.latency_tables import PER_MICROSECOND, LatencyTable, without_config
from kerassurgery_fn.pruning.layer_work import LayerWork, layer_work
from kerassurgery_fn.values.snapshot import Snapshot
from kerassurgery_fn.values.tables import ShownAsTable, Table

SHOWN = 5  # layers in an error


def as_latency_table(value: Any, name: str = "latency_table") -> LatencyTable:
    """The latency table.

    Raises:
        BadValue: the value is not a `LatencyTable`.
    """
    if isinstance(value, LatencyTable):
        return value
    raise BadValue(
        f"{name}: expected a LatencyTable, got {shortened(value)}; measure_latencies(model) measures one, and "
        "load_latencies(path) reads one"
    )


@dataclass(frozen=True, repr=False)
class Latency(ShownAsTable):
    """The latency of a model by a latency table, call by call, in the order of the model. It prints as a table.

    - `calls`: the layers, their signatures and their work;
    - `times`: the latency of each of them, in whole nanoseconds.
    """

    calls: tuple[LayerWork, ...]
    times: tuple[int, ...]

    @property
    def nanoseconds(self) -> int:
        """The latency of the model, in nanoseconds."""
        return sum(self.times)

    @property
    def microseconds(self) -> float:
        """The latency of the model, in microseconds."""
        return self.nanoseconds / PER_MICROSECOND

    def table(self) -> Table:
        """The layers that take time, with their shares of the whole latency."""
        total = self.nanoseconds
        rows = tuple(
            (each.path, each.work, time / PER_MICROSECOND, f"{100 * time / total:.1f} %")
            for each, time in zip(self.calls, self.times, strict=True)
            if time
        )
        return Table(
            "latency", ("layer", "work", "microseconds", "share"), (*rows, ("total", None, self.microseconds, ""))
        )


@takes(snapshot=as_snapshot, latency_table=as_latency_table, shapes=optional(as_shapes))
def latency(snapshot: Snapshot, latency_table: LatencyTable, shapes: Shapes | None = None) -> Latency:
    """The latency of a model by a latency table: the sum of the latencies of its layers. No layer is run.

    An axis of variable size (time, height, width) counts as one position, unless `shapes` states its size.

    Args:
        snapshot: the model.
        latency_table: the latencies of layers, from `measure_latencies`.
        shapes: the shape of one sample, for models with variable input size, as for `cost`.

    Raises:
        BadValue: the table does not have a layer of the model; the message names the layers.
        WrongShape, UnknownLayer: see `cost`.
    """
    calls = layer_work(snapshot, shapes)
    refuse_unmeasured(calls, latency_table, snapshot.name)
    return Latency(tuple(calls), tuple(latency_table.nanoseconds(each.signature, each.work) for each in calls))


def refuse_unmeasured(calls: Iterable[LayerWork], latency_table: LatencyTable, model: str) -> None:
    """Raises BadValue if a table does not have layers of a model."""
    missing = [each for each in calls if each.signature not in latency_table]
    if not missing:
        return
    paths = [*dict.fromkeys(each.path for each in missing)]
    more = f" and {len(paths) - SHOWN} more" * (len(paths) > SHOWN)
    first = without_config(missing[0].signature)
    raise BadValue(
        f"the latency table does not have {counted(len(paths), 'layer')} of {model!r}: "
        f"{', '.join(map(repr, paths[:SHOWN]))}{more}. The first is {first}. Measure the layers of this model, too: "
        "latency_table | measure_latencies(model), with the same input shapes"
    )
