"""Parameters, multiply-accumulates and bytes of a snapshot, layer by layer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count, takewhile
from math import prod
from typing import Any

import numpy as np

from kerassurgery_fn.analysis.channel_flow import Flow, analyse
from kerassurgery_fn.rules.macs import Shape, Use
from kerassurgery_fn.analysis.input_shapes import Shapes, as_shapes, with_shapes
from kerassurgery_fn.analysis.weight_sizes import item_size, trained_of_opaque
from kerassurgery_fn.arguments import as_snapshot, optional, takes
from kerassurgery_fn.channels import Axis, size
from kerassurgery_fn.graph import Call, Constant, Record, Ref, leaves, map_leaves, refs
from kerassurgery_fn.rules.layer import ADAPTERS
from kerassurgery_fn.values.snapshot import Snapshot
from kerassurgery_fn.values.tables import Table

Measure = Callable[[Axis], int]


@dataclass(frozen=True)
class LayerCost:
    """What one layer or operation costs; `note` says why a figure is only an estimate, if it is."""

    path: str
    class_name: str
    parameters: int
    trainable: int
    macs: int
    bytes: int
    note: str = ""


@dataclass(frozen=True, repr=False)
class Cost:
    """What a model costs: a row a layer, in the order of the model, and totals. It prints as a table.

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
        """The parameters that training changes."""
        return sum(layer.trainable for layer in self.layers)

    @property
    def macs(self) -> int:
        """The multiply-accumulates of one sample."""
        return sum(layer.macs for layer in self.layers)

    @property
    def bytes(self) -> int:
        """The memory of the weights."""
        return sum(layer.bytes for layer in self.layers)

    def __repr__(self) -> str:
        shown = [layer for layer in self.layers if layer.parameters or layer.macs or layer.note]
        rows = [(layer.path, layer.class_name, *_figures(layer), "~" * bool(layer.note)) for layer in shown]
        lines = _table([("layer", "class", *FIGURES, ""), *rows, ("total", "", *_figures(self), "")])
        if more := len(self.layers) - len(shown):
            lines.append(f"{more} more layer{'s' * (more > 1)} without weights or multiplications")
        return "\n".join([*lines, *(f"~ {layer.path}: {layer.note}" for layer in shown if layer.note)])

    def table(self) -> Table:
        """The layers that cost anything, with their shares of the whole."""
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
    """The lines of a table, two columns of words on the left and the others on the right of their place."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    aligned = [
        [cell.ljust(n) if i < 2 else cell.rjust(n) for i, (cell, n) in enumerate(zip(row, widths, strict=True))]
        for row in rows
    ]
    return ["  ".join(row).rstrip() for row in aligned]


@takes(snapshot=as_snapshot, shapes=optional(as_shapes))
def cost(snapshot: Snapshot, shapes: Shapes | None = None) -> Cost:
    """The parameters, multiply-accumulates (MACs) and weight bytes of a model, from its config.

    A MAC is one multiplication and addition of a convolution, a dense layer or another product of matrices, the
    projections, scores and weighted sums of attention included, in a forward pass of **one sample** (batch 1).
    Biases, normalisations, activations, pooling, lookups and all that works element by element count nothing. Zeros of
    a padding count like other numbers. A shared layer's weights count once, its MACs at every call; a recurrent
    layer's kernels count at every step of time.

    An axis whose size the config leaves open (time, height, width) counts as one position, unless `shapes` says how
    long it is.

    Parameters and bytes agree with `model.count_params()` and with Keras' memory of the variables. A weight has the
    dtype of its array; where the snapshot has no arrays, that of the layer's dtype policy (float32 under
    `mixed_float16`). Opaque layers, those that no rule describes, are counted by the arrays of the snapshot: all of
    them trainable if the layer is, but for integers; their MACs estimated, every element of arrays with two axes and
    more once for each position of the output. Their rows carry a note.

    LoRA adds the product of two factors to a kernel once a call, so it costs the same for one position and for many.
    Quantized layers apply both factors at every position.

    Args:
        snapshot: the model.
        shapes: the shape of one sample (without the batch axis) for a model with one input, or a mapping of the
            names of input layers to shapes.

    Raises:
        WrongShape: a shape does not fit the model's input.
        UnknownLayer: the model has no input of that name.
    """
    sized = snapshot if shapes is None else with_shapes(snapshot, shapes)
    return cost_of(sized, analyse(sized))


def cost_of(snapshot: Snapshot, flow: Flow, dead: np.ndarray | None = None) -> Cost:
    """The cost of a snapshot whose flow is known, or what it would cost without the channels of dead final ids.

    Args:
        snapshot: the model.
        flow: its channels.
        dead: which final ids die, shaped as by `flow.solution.none_dead()`; none by default.
    """
    measure = _measure(flow, dead)
    calls = list(_calls(flow, flow.graph.calls, measure))
    weights = {path: _shapes(snapshot, flow, path, measure) for path in dict.fromkeys(call.path for call, _ in calls)}
    totals = dict.fromkeys(weights, 0)
    notes: dict[str, str] = {}
    for call, times in calls:
        macs, note = _macs(flow, call, weights[call.path], measure)
        totals[call.path] += times * macs
        if note:
            notes[call.path] = note
    batch = max([1, *(measure(axes[0]) for axes in map(flow.tensors.get, flow.graph.inputs) if axes)])
    trains = bool(snapshot.config.get("trainable", True))
    records = {call.path: call.record for call, _ in calls}
    return Cost(
        tuple(
            _row(snapshot, flow, path, records[path], shapes, trains, totals[path] // batch, notes.get(path, ""))
            for path, shapes in weights.items()
        )
    )


def _calls(flow: Flow, calls: Sequence[Call], measure: Measure, times: int = 1) -> Iterator[tuple[Call, int]]:
    """All calls and how often each is made: those of a model that a layer wraps at every step of time."""
    for call in calls:
        yield call, times
        if inner := flow.graph.within(call):
            whole, step = (flow.tensors.get(ref) or () for ref in (*refs(call.args)[:1], inner.step))
            steps = prod(map(measure, whole[1 : 1 + len(whole) - len(step)]))
            yield from _calls(flow, inner.calls, measure, times * steps)


def _row(
    snapshot: Snapshot, flow: Flow, path: str, record: Record, shapes: list[tuple[str, Shape]], trains: bool, macs: int,
    note: str,
) -> LayerCost:  # fmt: skip
    """A layer's row; `trains` says whether the model as a whole is trainable."""
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
        sum(n for n, one in zip(sizes, trained, strict=True) if one and trains),
        macs,
        sum(n * width for n, width in zip(sizes, widths, strict=True)),
        note,
    )


def _measure(flow: Flow, dead: np.ndarray | None) -> Measure:
    """A function from an axis to how many of its positions live; an unknown number counts as one."""
    known: dict[int, int] = {}

    def measure(axis: Axis) -> int:
        if dead is None or not isinstance(axis, np.ndarray):
            return 1 if (n := size(axis)) is None else n
        if id(axis) not in known:
            known[id(axis)] = len(flow.solution.kept(axis, dead))
        return known[id(axis)]

    return measure


def _shapes(snapshot: Snapshot, flow: Flow, path: str, measure: Measure) -> list[tuple[str, Shape]]:
    """Name and shape of a layer's weights; those of an opaque layer have no names."""
    if path in flow.opaque:
        return [("", array.shape) for array in snapshot.weights.get(path, ())]
    return [(weight.name, tuple(map(measure, weight.axes))) for weight in flow.weights.get(path, ())]


def _macs(flow: Flow, call: Call, weights: list[tuple[str, Shape]], measure: Measure) -> tuple[int, str]:
    """The multiply-accumulates of a call on a whole batch, and why they are only an estimate."""

    def shape(leaf: Any) -> Any:
        if isinstance(leaf, Ref):
            axes = flow.tensors.get(leaf)
        elif isinstance(leaf, Constant):
            axes = flow.constants.get(leaf.where, leaf.array.shape)
        else:
            return leaf
        return None if axes is None else tuple(map(measure, axes))

    made = takewhile(lambda axes: axes is not None, (flow.tensors.get(ref) for ref in _outputs(call)))
    use = Use(call.record, weights, [tuple(map(measure, axes)) for axes in made])  # type: ignore[arg-type]
    args, kwargs = map_leaves(shape, call.args), map_leaves(shape, call.kwargs)
    note = f"it {flow.opaque[call.path]}" if call.path in flow.opaque else ""
    try:
        return use(*args, **kwargs), note
    except Exception as error:  # an entry that fails on a config nobody thought of must not stop the count
        return _estimate(use, leaves([args, kwargs])), note or f"its entry fails ({type(error).__name__}: {error})"


def _outputs(call: Call) -> Iterator[Ref]:
    return (Ref(call.path, call.node, index) for index in count())


def _estimate(use: Use, arguments: list[Any]) -> int:
    """Every kernel element once for each position of the first tensor whose shape is known."""
    known = [*use.outputs, *(leaf for leaf in arguments if isinstance(leaf, tuple))]
    return use.kernels * (use.positions(known[0]) if known else 1)
