"""The work of each layer, on which its latency depends, and its signature: what it does, without its widths."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

from toolz import unique

from kerassurgery_fn.analysis.channel_flow import Flow, analyse
from kerassurgery_fn.analysis.input_shapes import Shapes, as_shapes, with_shapes
from kerassurgery_fn.analysis.layer_costs import measure_of
from kerassurgery_fn.analysis.mac_collector import MacCollector, Measure
from kerassurgery_fn.analysis.rule_walk import walk
from kerassurgery_fn.arguments import as_snapshot, optional, takes
from kerassurgery_fn.channels import Axis, has_ids, size
from kerassurgery_fn.graph import Call, Constant, Ref, is_input, leaves
from kerassurgery_fn.rules.registry import class_key
from kerassurgery_fn.values.frozen import Location, set_all
from kerassurgery_fn.values.snapshot import Snapshot

# Stands for numbers that follow from widths, and for 1: an axis of which one position is left has no channels any more,
# and the config of a convolution with one group is that of a convolution without groups.
VARIABLE = "*"
Key = tuple[str, tuple[int, ...]]  # path and node of a call
LONGEST_CHAIN = 4  # layers before a layer that are in its signature
LONGEST = 32  # items of a list in a config; of longer ones, the number counts
IDLE = ("name", "trainable", "seed", "build_config", "registered_name")  # config fields that do not affect the latency
IDLE_ENDS = ("_initializer", "_regularizer", "_constraint")


@dataclass(frozen=True)
class LayerWork:
    """One call of a layer: the path of the layer, its signature, and its work.

    - `signature`: what the layer does, without its widths: its class, the config fields that do not follow from widths,
      and the shapes of its tensors with `*` for channels and for 1. A layer without multiply-accumulates that keeps the
      shape of its only tensor, such as an activation, has the classes of the layers that it reads, too: `ReLU after
      BatchNormalization after Conv2D`. Runtimes compute some of them together.
    - `work`: the multiply-accumulates of the call, plus the number of elements that it reads and writes;
    - `before`: path and node of the calls whose classes are in the signature, in the order of the model.
    """

    path: str
    signature: str
    work: int
    before: tuple[Key, ...] = ()


@takes(snapshot=as_snapshot, shapes=optional(as_shapes))
def layer_work(snapshot: Snapshot, shapes: Shapes | None = None) -> list[LayerWork]:
    """The signature and the work of each call of a layer, in the order of the model.

    Args:
        snapshot: the model.
        shapes: the shape of one sample, for models with variable input size, as for `cost`.

    Raises:
        WrongShape, UnknownLayer: see `cost`.
    """
    sized = snapshot if shapes is None else with_shapes(snapshot, shapes)
    flow = analyse(sized)
    return work_by(sized, flow, measure_of(flow, None))


def work_by(snapshot: Snapshot, flow: Flow, measure: Measure) -> list[LayerWork]:
    """The work of each call, with sizes of axes from a function, as for `cost_by`."""
    collector = MacCollector(snapshot, flow, measure)
    walk(collector.calls, collector)
    counted = places_by_record(flow)
    records = {(call.path, call.node): call.record for call in flow.trace.calls}
    found: dict[Key, LayerWork] = {}
    for call in calls_of(flow):
        macs, tensors = macs_of(flow, call, collector), tensors_of(flow, call)
        elements = sum(prod(map(measure, axes)) for axes in (*tensors[0], *tensors[1]))
        source = producer_of(flow, call) if int(macs) == 0 else None
        before = (*found[source].before, source)[-LONGEST_CHAIN:] if source in found else ()
        after = [class_key(records[key]) for key in reversed(before)]
        signature = signature_of(call, tensors, counted.get(call.where, ()), after)
        found[call.path, call.node] = LayerWork(call.path, signature, macs + elements, before)
    return [*found.values()]


def calls_of(flow: Flow) -> list[Call]:
    """The calls of layers. Layers that wrap a model count as one layer."""
    return [call for call in flow.trace.calls if not is_input(call.record)]


def macs_of(flow: Flow, call: Call, collector: MacCollector) -> int:
    """The multiply-accumulates of a call, and of the calls inside the model that it wraps."""
    inner = flow.trace.within(call)
    inside = sum(macs_of(flow, each, collector) for each in inner.calls) if inner else 0
    return collector.by_call.get((call.path, call.node), 0) + inside


def tensors_of(flow: Flow, call: Call) -> tuple[list[Sequence[Axis]], list[Sequence[Axis]]]:
    """The axes of each tensor and array that a call reads, and of each tensor that it computes."""
    arguments = unique(leaf for leaf in leaves([call.args, call.kwargs]) if isinstance(leaf, Ref))
    read: list[Sequence[Axis]] = [flow.tensors.get(ref) or () for ref in arguments]
    constants = [leaf for leaf in leaves([call.args, call.kwargs]) if isinstance(leaf, Constant)]
    read += [flow.constants.get(constant.where, constant.array.shape) for constant in constants]
    outputs: list[Sequence[Axis]] = []
    while (axes := flow.tensors.get(Ref(call.path, call.node, len(outputs)))) is not None:
        outputs.append(axes)
    return read, outputs


def producer_of(flow: Flow, call: Call) -> Key | None:
    """The call that computes the only tensor that a call reads, if the output has the same shape; None otherwise."""
    read, outputs = tensors_of(flow, call)
    arguments = [leaf for leaf in leaves([call.args, call.kwargs]) if isinstance(leaf, (Ref, Constant))]
    if len(arguments) != 1 or not isinstance(arguments[0], Ref) or len(outputs) != 1:
        return None
    has_same_shape = list(map(size, read[0])) == list(map(size, outputs[0]))
    return arguments[0][:2] if has_same_shape else None


# --- signatures


def signature_of(
    call: Call, tensors: tuple[Sequence[Sequence[Axis]], Sequence[Sequence[Axis]]], counted: Sequence[Location],
    after: Sequence[str],
) -> str:  # fmt: skip
    """What a call does, without widths.

    Args:
        call: the call.
        tensors: the axes of the tensors that it reads and computes.
        counted: the places in its record whose values follow from widths.
        after: the classes of the layers that it reads, the last one first; empty if they do not matter.
    """
    read, computed = (", ".join(_shape(axes) for axes in some) for some in tensors)
    record = set_all(call.record, dict.fromkeys(counted, VARIABLE))
    config = json.dumps(relevant(record["config"]), separators=(", ", ": "), sort_keys=True, default=str)
    return f"{' after '.join([class_key(call.record), *after])}: {read} -> {computed} {config}"


def _shape(axes: Sequence[Axis]) -> str:
    sizes = [1 if has_ids(axis) else size(axis) or 1 for axis in axes]
    return f"({', '.join(str(n) if n > 1 else VARIABLE for n in sizes)})"


def relevant(tree: Any) -> Any:
    """The part of a config on which a latency can depend, without fields that are None.

    >>> policy = {"class_name": "DTypePolicy", "config": {"name": "float32"}}
    >>> relevant({"name": "a", "filters": "*", "strides": [2, 1], "kernel_initializer": "zeros", "dtype": policy})
    {'filters': '*', 'strides': [2, '*'], 'dtype': 'float32'}
    """
    match tree:
        case {"class_name": str(), "config": {"name": str(policy), **others}} if not others:
            return policy
    if isinstance(tree, Mapping):
        kept = {key: item for key, item in tree.items() if key not in IDLE and not str(key).endswith(IDLE_ENDS)}
        return {key: relevant(item) for key, item in kept.items() if item is not None}
    if isinstance(tree, (list, tuple)):
        return f"{len(tree)} items" if len(tree) > LONGEST else [relevant(item) for item in tree]
    return VARIABLE if type(tree) is int and tree == 1 else tree


def places_by_record(flow: Flow) -> dict[Location, list[Location]]:
    """Place of each record of a layer -> the places inside it whose values follow from widths."""
    wanted = {call.where for call in flow.trace.calls}
    found: dict[Location, list[Location]] = {}
    for place in (*flow.sizes, *flow.constants, *flow.trace.shapes, *flow.trace.structures):
        for length in range(len(place)):
            if place[:length] in wanted and place[length] == "config":
                found.setdefault(place[:length], []).append(place[length:])
    return found
