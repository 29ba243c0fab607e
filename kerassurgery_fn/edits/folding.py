"""Batch normalisations folded into the layers before them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from kerassurgery_fn.edits.base import edit
from kerassurgery_fn.edits.steps.draft import Draft, parted
from kerassurgery_fn.edits.steps.draft_writing import Rewrite
from kerassurgery_fn.errors import NotFoldable
from kerassurgery_fn.graph import (
    Port,
    Record,
    Selector,
    as_selector,
    is_pattern,
    join_path,
    of_class,
    readers,
    redirected,
    with_layer,
)
from kerassurgery_fn.rules.constrained import constraint_of, stays, undone
from kerassurgery_fn.rules.registry import key_of
from kerassurgery_fn.values.frozen import set_in

# Class -> which of its weights is the last kernel, and along which axes of it the channels lie that it makes.
KERNELS: dict[str, tuple[int, tuple[int, ...]]] = {
    "Dense": (0, (-1,)),
    **dict.fromkeys(("Conv1D", "Conv2D", "Conv3D"), (0, (-1,))),
    **dict.fromkeys(("Conv1DTranspose", "Conv2DTranspose", "Conv3DTranspose"), (0, (-2,))),
    **dict.fromkeys(("DepthwiseConv1D", "DepthwiseConv2D"), (0, (-2, -1))),
    **dict.fromkeys(("SeparableConv1D", "SeparableConv2D"), (1, (-1,))),
}
NORM = "BatchNormalization"
ALL = of_class(NORM)


class Fold(NamedTuple):
    """A normalisation that can go: the layer that takes it over, and what is read in place of what it made."""

    norm: str
    layer: str
    ports: dict[Port, Port]


@edit
@dataclass(frozen=True)
class FoldBatchNorm(Rewrite):
    """Batch normalisations folded into the Dense, Conv, DepthwiseConv, SeparableConv or ConvTranspose layer before
    them, whose kernel and bias then do both. What the model computes in inference is the same.

    That can be where nothing else reads what that layer makes, where its activation is linear, and where no constraint
    on its weights would undo the folding at the next training step. Layers without a bias get one. Regularizers stay,
    and count the new weights: the loss changes, what the model computes does not.

    Args:
        layer: which normalisations, see `graph.selectors`; all by default. Of those that a pattern names, the
            ones that cannot be folded stay.

    Raises (when called on a snapshot):
        UnknownLayer, AmbiguousLayer: no layer, or several where one is meant, of that name.
        NotFoldable: a layer that is named by its name is no batch normalisation, or cannot be folded, and why; or a
            constraint would undo the folding of any of the layers at the next training step.

    >>> FoldBatchNorm("block1_*")
    FoldBatchNorm(layer='block1_*')
    """

    layer: Selector = ALL

    def __post_init__(self) -> None:
        object.__setattr__(self, "layer", as_selector(self.layer))

    def redraw(self, draft: Draft) -> Draft:
        lenient = is_pattern(self.layer, draft.before)
        if self.layer == ALL and all(map(_is_other, map(draft.record, draft.before.places))):
            return draft
        for path in draft.find(self.layer):
            found = foldable(draft, path)
            if isinstance(found, Fold):
                refuse_undone(draft, path, found)
                draft = folded(draft, parted(path)[0], found)
            elif not lenient:
                raise NotFoldable(f"layer {path!r} cannot be folded: {found}")
        return draft


def _is_other(record: Record) -> bool:
    return key_of(record) != NORM


def foldable(draft: Draft, path: str) -> Fold | str:
    """How a normalisation can be folded, or why it cannot be, in words."""
    scope, key = parted(path)
    graph = draft.graph(scope)
    record = graph.layers[key]
    if _is_other(record):
        return f"it is a {record['class_name']}, and only a BatchNormalization can be"
    if not draft.weights.get(path):
        return "its statistics are yet to be drawn"
    calls = [node for node in graph.live if node[0] == key]
    if not calls:
        return "another edit at once with this one has taken it out, or folded it"
    nodes = [node for node in calls if graph.calls[node].kwargs.get("training") is not True]
    ports = {Port(*node): graph.reads(node)[0] for node in nodes}
    producers = {port.layer for port in ports.values()}
    if len(nodes) < len(calls):
        return "it is called with training=True, and normalises by each batch"
    if len(producers) != 1:
        return f"it normalises what several layers make, {', '.join(sorted(producers))}"
    producer = producers.pop()
    return why_not(draft, scope, producer, record, list(ports.values())) or Fold(key, producer, ports)


def why_not(draft: Draft, scope: str, producer: str, norm: Record, ports: list[Port]) -> str | None:
    """Why a layer cannot take over a normalisation of tensors that it makes, in words; None if it can."""
    graph, path = draft.graph(scope), join_path(scope, producer)
    record = graph.layers[producer]
    config, kind = record["config"], key_of(record)
    if kind not in KERNELS:
        return f"what it normalises is made by {path!r}, a {record['class_name']}"
    if config["activation"] != "linear":
        return f"{path!r}, before it, applies {config['activation']!r} first"
    if len(draft.weights.get(path, ())) != KERNELS[kind][0] + 1 + config["use_bias"]:
        return f"the weights of {path!r}, before it, are not those of a plain {kind}"
    if len(graph.nodes(producer)) != len(ports):
        return f"{path!r}, before it, is called in other places, too"
    counts = readers(graph)
    if any(counts[port] > 1 for port in ports):
        return f"others read what {path!r}, before it, makes"
    spec = draft.facts(scope).specs.get(ports[0])
    channel = 1 if config.get("data_format") == "channels_first" else -1
    if spec is None or norm["config"]["axis"] % len(spec.shape) != channel % len(spec.shape):
        return f"it normalises along axis {norm['config']['axis']}, which is not that of the channels of {path!r}"
    return None


def refuse_undone(draft: Draft, norm: str, fold: Fold) -> None:
    """Raises NotFoldable where a constraint of the layer would undo the folding at the next training step."""
    scope = parted(norm)[0]
    path = join_path(scope, fold.layer)
    record = draft.graph(scope).layers[fold.layer]
    first, (scale, shift) = KERNELS[key_of(record)][0], affine_of(draft, scope, fold)
    arrays = draft.weights[path]
    arrays = arrays if record["config"]["use_bias"] else (*arrays, np.zeros(len(scale), arrays[first].dtype))
    biased = set_in(record, ("config", "use_bias"), True)
    for slot, name in ((first, "pointwise_kernel" if first else "kernel"), (first + 1, "bias")):

        def taken(array: np.ndarray, slot: int = slot) -> np.ndarray:
            return taken_over(biased, (*arrays[:slot], array, *arrays[slot + 1 :]), scale, shift)[slot]

        constraint = constraint_of(record["config"], name)
        if not stays(constraint, arrays[slot], taken):
            raise NotFoldable(f"layer {norm!r} cannot be folded: {undone(path, name, constraint)}")


def affine_of(draft: Draft, scope: str, fold: Fold) -> tuple[np.ndarray, np.ndarray]:
    """What a normalisation multiplies by in inference, and what it adds then."""
    config = draft.graph(scope).layers[fold.norm]["config"]
    return affine(config, draft.weights[join_path(scope, fold.norm)])


def folded(draft: Draft, scope: str, fold: Fold) -> Draft:
    """The draft without a normalisation, which the layer before it has taken over."""
    graph = draft.graph(scope)
    path = join_path(scope, fold.layer)
    record = graph.layers[fold.layer]
    scale, shift = affine_of(draft, scope, fold)
    made = taken_over(record, draft.weights[path], scale, shift)
    graph = with_layer(graph, fold.layer, set_in(record, ("config", "use_bias"), True))
    draft = draft.with_graph(scope, redirected(graph, fold.ports)).with_arrays({path: made})
    return replace(draft, restarted=draft.restarted | {path})


def affine(config: Any, arrays: tuple[np.ndarray, ...]) -> tuple[np.ndarray, np.ndarray]:
    """What a batch normalisation multiplies by in inference, and what it adds then.

    >>> config = {"scale": False, "center": True, "epsilon": 0.0}
    >>> affine(config, (np.array([1.0]), np.array([3.0]), np.array([4.0])))
    (array([0.5]), array([-0.5]))
    """
    left = [array.astype(np.float64) for array in arrays]
    gamma = left.pop(0) if config["scale"] else 1.0
    beta = left.pop(0) if config["center"] else 0.0
    mean, variance = left[:2]
    scale = gamma / np.sqrt(variance + config["epsilon"])
    return scale, beta - mean * scale


def taken_over(
    record: Record, arrays: tuple[np.ndarray, ...], scale: np.ndarray, shift: np.ndarray
) -> tuple[np.ndarray, ...]:
    """The weights of a layer that scales and shifts what it makes."""
    index, axes = KERNELS[key_of(record)]
    kernel = arrays[index]
    bias = arrays[index + 1] if record["config"]["use_bias"] else np.zeros(len(scale))
    shape = [kernel.shape[axis] if axis in axes else 1 for axis in range(-kernel.ndim, 0)]
    made = kernel * scale.reshape(shape), bias * scale + shift
    return (*arrays[:index], *(array.astype(kernel.dtype) for array in made))
