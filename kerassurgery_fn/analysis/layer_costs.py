"""The parameters, multiply-accumulates and bytes of each layer of a snapshot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from kerassurgery_fn.analysis.channel_flow import Flow, analyse
from kerassurgery_fn.analysis.input_shapes import Shapes, as_shapes, with_shapes
from kerassurgery_fn.analysis.mac_collector import MacCollector, Measure
from kerassurgery_fn.analysis.rule_walk import walk
from kerassurgery_fn.analysis.weight_sizes import item_size, trained_of_opaque
from kerassurgery_fn.arguments import as_snapshot, optional, takes
from kerassurgery_fn.channels import Axis, size
from kerassurgery_fn.graph import Record
from kerassurgery_fn.rules.layer import ADAPTERS
from kerassurgery_fn.rules.macs import Shape
from kerassurgery_fn.rules.registry import state_of_rules
from kerassurgery_fn.values.frozen import freeze
from kerassurgery_fn.values.kept_results import computed_once
from kerassurgery_fn.values.snapshot import Snapshot
from kerassurgery_fn.values.tables import Table


@dataclass(frozen=True)
class LayerCost:
    """The cost of one layer or operation. If the MACs are only an estimate, `note` says why."""

    path: str
    class_name: str
    parameters: int
    trainable: int
    macs: int
    bytes: int
    note: str = ""


@dataclass(frozen=True, repr=False)
class Cost:
    """The cost of a model: a row for each layer, in the order of the model, and totals. It prints as a table.

    >>> row = LayerCost("dense", "Dense", 15, 15, 12, 60)
    >>> two = Cost((row, LayerCost("flatten", "Flatten", 0, 0, 0, 0)))
    >>> two.parameters, two.macs
    (15, 12)
    >>> two
    layer  class  parameters  trainable  MACs  bytes
    dense  Dense          15         15    12     60
    total                 15         15    12     60
    1 more layer without weights or multiplications
    """

    layers: tuple[LayerCost, ...]

    @property
    def parameters(self) -> int:
        return sum(layer.parameters for layer in self.layers)

    @property
    def trainable(self) -> int:
        """The number of parameters that training changes."""
        return sum(layer.trainable for layer in self.layers)

    @property
    def macs(self) -> int:
        """The multiply-accumulates of one sample."""
        return sum(layer.macs for layer in self.layers)

    @property
    def bytes(self) -> int:
        """The memory of the weights in bytes."""
        return sum(layer.bytes for layer in self.layers)

    def __repr__(self) -> str:
        shown = [layer for layer in self.layers if layer.parameters or layer.macs or layer.note]
        rows = [(layer.path, layer.class_name, *_figures(layer), "~" * bool(layer.note)) for layer in shown]
        lines = _table([("layer", "class", *FIGURES, ""), *rows, ("total", "", *_figures(self), "")])
        if more := len(self.layers) - len(shown):
            lines.append(f"{more} more layer{'s' * (more > 1)} without weights or multiplications")
        return "\n".join([*lines, *(f"~ {layer.path}: {layer.note}" for layer in shown if layer.note)])

    def table(self) -> Table:
        """The layers with weights or MACs, with their shares of all MACs."""
        rows = tuple(
            (row.path, row.class_name, row.parameters, row.macs, f"{100 * row.macs / (self.macs or 1):.1f} %")
            for row in self.layers
            if row.parameters or row.macs or row.note
        )
        total = ("total", "", self.parameters, self.macs, "")
        notes = tuple(f"~ {row.path}: {row.note}" for row in self.layers if row.note)
        return Table("cost", ("layer", "class", "parameters", "MACs", "share"), (*rows, total), notes)

    def _repr_html_(self) -> str:
        return self.table()._repr_html_()


FIGURES = ("parameters", "trainable", "MACs", "bytes")


def _figures(costs: LayerCost | Cost) -> tuple[str, ...]:
    return tuple(f"{n:,}" for n in (costs.parameters, costs.trainable, costs.macs, costs.bytes))


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a table: two columns of words, aligned on the left, and columns of numbers, aligned on the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    aligned = [
        [cell.ljust(n) if i < 2 else cell.rjust(n) for i, (cell, n) in enumerate(zip(row, widths, strict=True))]
        for row in rows
    ]
    return ["  ".join(row).rstrip() for row in aligned]


@takes(snapshot=as_snapshot, shapes=optional(as_shapes))
def cost(snapshot: Snapshot, shapes: Shapes | None = None) -> Cost:
    """The parameters, multiply-accumulates (MACs) and weight bytes of a model, from its config.

    A MAC is one multiplication and addition of a convolution, a dense layer or another matrix product, in a forward
    pass of **one sample** (batch 1). The projections, scores and weighted sums of attention are included. Biases,
    normalisations, activations, pooling, lookups and elementwise operations count as zero. Zeros of a padding count
    like other numbers. The weights of a shared layer count once, its MACs at every call. The kernels of a recurrent
    layer count at every time step.

    An axis of variable size (time, height, width) counts as one position, unless `shapes` states its size.

    Parameters and bytes agree with `model.count_params()` and with the memory of the Keras variables. A weight has the
    dtype of its array. If the snapshot has no arrays, the dtype policy of the layer determines it (float32 under
    `mixed_float16`). Opaque layers, which no rule describes, are counted by the arrays of the snapshot. Their arrays
    count as trainable if the layer is trainable, except integers and the arrays that its record lists as state. Their
    MACs are an estimate: each element of arrays with two or more axes counts once for each position of the output.
    Their rows have a note.

    LoRA adds the product of two factors to a kernel once for each call, so its cost does not depend on the positions.
    Quantized layers apply both factors at every position.

    Args:
        snapshot: the model.
        shapes: the shape of one sample (without the batch axis) for a model with one input, or a mapping from the
            names of input layers to shapes.

    Raises:
        WrongShape: a shape does not match the input.
        UnknownLayer: the model has no input with this name.
    """
    return _cost(snapshot, freeze(shapes))


@computed_once(state=state_of_rules)
def _cost(snapshot: Snapshot, shapes: Shapes | None) -> Cost:
    sized = snapshot if shapes is None else with_shapes(snapshot, shapes)
    return cost_of(sized, analyse(sized))


def cost_of(snapshot: Snapshot, flow: Flow, dead: np.ndarray | None = None) -> Cost:
    """The cost of a snapshot by its flow, or its cost without the channels of some ids.

    Args:
        snapshot: the model.
        flow: its channels.
        dead: boolean mask over the final ids that are deleted, as `flow.solution.none_dead()`; none by default.
    """
    return cost_by(snapshot, flow, measure_of(flow, dead))


def cost_by(snapshot: Snapshot, flow: Flow, measure: Measure) -> Cost:
    """The cost of a snapshot by its flow, with sizes of axes from a function.

    Args:
        snapshot: the model.
        flow: its channels.
        measure: axis -> the number of its positions, 1 if the number is unknown. It can return a subclass of int,
            because all figures are sums of products of the sizes.
    """
    collector = MacCollector(snapshot, flow, measure)
    walk(collector.calls, collector)
    batch = max([1, *(measure(axes[0]) for axes in map(flow.tensors.get, flow.trace.inputs) if axes)])
    trains = bool(snapshot.config.get("trainable", True))
    records = {call.path: call.record for call in collector.calls}
    return Cost(
        tuple(
            _row(
                snapshot, flow, path, records[path], shapes, trains, collector.macs[path] // batch,
                collector.notes.get(path, ""),
            )
            for path, shapes in collector.weights.items()
        )
    )  # fmt: skip


def _row(
    snapshot: Snapshot, flow: Flow, path: str, record: Record, shapes: list[tuple[str, Shape]], trains: bool, macs: int,
    note: str,
) -> LayerCost:  # fmt: skip
    """The row of a layer.

    Args:
        snapshot, flow: the model.
        path, record: the layer.
        shapes: the name and shape of each of its weights.
        trains: whether the model as a whole is trainable.
        macs: the MACs of the layer for one sample.
        note: why the MACs are only an estimate; empty if they are exact.
    """
    sizes = [prod(shape) for _, shape in shapes]
    arrays = snapshot.weights.get(path, ())
    width = item_size(record)
    widths = [array.itemsize for array in arrays] or [4 if name in ADAPTERS else width for name, _ in shapes]
    if path in flow.opaque:
        trained = trained_of_opaque(record, arrays)
    else:
        trained = [weight.trainable for weight in flow.weights.get(path, ())]
    return LayerCost(
        path,
        record["class_name"],
        sum(sizes),
        sum(n for n, is_trained in zip(sizes, trained, strict=True) if is_trained and trains),
        macs,
        sum(n * width for n, width in zip(sizes, widths, strict=True)),
        note,
    )


def measure_of(flow: Flow, dead: np.ndarray | None = None) -> Measure:
    """A function: axis -> the number of kept positions, 1 if the number is unknown.

    Args:
        flow: the channels of the model.
        dead: boolean mask over the final ids that are deleted; none by default.
    """
    known: dict[int, int] = {}
    kept_ids = None if dead is None else flow.solution.kept_ids(dead)

    def measure(axis: Axis) -> int:
        if kept_ids is None or not isinstance(axis, np.ndarray):
            return 1 if (n := size(axis)) is None else n
        if id(axis) not in known:
            known[id(axis)] = int(kept_ids[axis].all(axis=0).sum())
        return known[id(axis)]

    return measure
