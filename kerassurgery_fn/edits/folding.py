"""Folding of batch normalisations into the layers before them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from toolz import groupby, merge

from kerassurgery_fn.edits.base import edit
from kerassurgery_fn.edits.steps.draft import Draft, SpecsOf, parted
from kerassurgery_fn.edits.steps.draft_writing import GraphEdit
from kerassurgery_fn.errors import NotFoldable
from kerassurgery_fn.graph import (
    Port,
    Record,
    Selector,
    as_selector,
    is_pattern,
    join_path,
    of_class,
    redirected,
    with_layers,
)
from kerassurgery_fn.rules.constrained import constraint_of, stays, undone
from kerassurgery_fn.rules.registry import RULES, rule_for
from kerassurgery_fn.rules.rule_fields import Kernel
from kerassurgery_fn.values.frozen import set_in

ALL = of_class(*(name for name, rule in RULES.items() if rule.foldable))


class Fold(NamedTuple):
    """A normalisation that can be folded.

    - `norm`: its key;
    - `layer`: the key of the layer that it is folded into;
    - `ports`: output of the normalisation -> the output of the layer that is read instead.
    """

    norm: str
    layer: str
    ports: dict[Port, Port]


@edit
@dataclass(frozen=True)
class FoldBatchNorm(GraphEdit):
    """Folds batch normalisations into the Dense, Conv, DepthwiseConv, SeparableConv or ConvTranspose layers before
    them. The function of the model in inference stays the same.

    A normalisation can be folded if it is the only reader of the layer before it, if the activation of that layer is
    linear, and if no constraint on its weights would undo the folding at the next training step. A layer without a bias
    gets one. Regularizers stay and apply to the new weights, so the loss changes.

    Args:
        layer: the normalisations, see `graph.selectors`; all by default. A pattern skips the normalisations that cannot
            be folded.

    Raises (when called on a snapshot):
        UnknownLayer, AmbiguousLayer: no layer has this name, or several layers have it.
        NotFoldable: a layer that is selected by its name is not a batch normalisation or cannot be folded; or a
            constraint would undo the folding of a selected layer at the next training step.

    >>> FoldBatchNorm("block1_*")
    FoldBatchNorm(layer='block1_*')
    """

    layer: Selector = ALL

    def __post_init__(self) -> None:
        object.__setattr__(self, "layer", as_selector(self.layer))

    def redraw(self, draft: Draft) -> Draft:
        lenient = is_pattern(self.layer, draft.before)
        # The default selects nothing in a model without normalisations; any other selector raises an error there.
        if self.layer == ALL and not any(map(is_foldable, map(draft.record, draft.before.places))):
            return draft
        before = draft  # folding changes no shape
        specs = cache(lambda scope: before.facts(scope).specs)
        waiting = draft.find(self.layer)
        # One round folds all that can be folded into layers as they are now: of two normalisations in a row, the first.
        while folds := {path: fold for path in waiting if isinstance(fold := foldable(draft, path, specs), Fold)}:
            draft = folded(draft, folds)
            waiting = [path for path in waiting if path not in folds]
        if waiting and not lenient:
            raise NotFoldable(f"layer {waiting[0]!r} cannot be folded: {foldable(draft, waiting[0], specs)}")
        return draft


def is_foldable(record: Record) -> bool:
    """Whether a layer is a batch normalisation."""
    return rule_for(record).foldable


def foldable(draft: Draft, path: str, specs: SpecsOf) -> Fold | str:
    """How a normalisation can be folded, or why it cannot, in words.

    Args:
        draft: the model.
        path: the path of the normalisation.
        specs: path of a model -> the specs of its tensors.
    """
    scope, key = parted(path)
    graph = draft.graph(scope)
    record = graph.layers[key]
    if not is_foldable(record):
        return f"it is a {record['class_name']}, not a BatchNormalization"
    if not draft.weights.get(path):
        return "its statistics are drawn when the model is rebuilt"
    calls = [node for node in graph.nodes(key) if node in graph.alive]
    if not calls:
        return "another edit of the same plan deletes it or folds it"
    nodes = [node for node in calls if graph.calls[node].kwargs.get("training") is not True]
    ports = {Port(*node): graph.reads(node)[0] for node in nodes}
    producers = {port.layer for port in ports.values()}
    if len(nodes) < len(calls):
        return "it is called with training=True, so it normalises by the statistics of each batch"
    if len(producers) != 1:
        return f"it normalises the outputs of several layers, {', '.join(sorted(producers))}"
    producer = producers.pop()
    return why_not(draft, scope, producer, record, list(ports.values()), specs) or Fold(key, producer, ports)


def why_not(draft: Draft, scope: str, producer: str, norm: Record, ports: list[Port], specs: SpecsOf) -> str | None:
    """Why a normalisation cannot be folded into the layer before it, in words; None if it can.

    Args:
        draft: the model.
        scope: the path of the nested model that has both layers, or "".
        producer: the key of the layer.
        norm: the record of the normalisation.
        ports: the outputs of the layer that are normalised.
        specs: path of a model -> the specs of its tensors.
    """
    graph, path = draft.graph(scope), join_path(scope, producer)
    record = graph.layers[producer]
    config, kernel = record["config"], rule_for(record).folds
    if kernel is None:
        return f"it normalises the output of {path!r}, a {record['class_name']}"
    if config["activation"] != "linear":
        return f"{path!r}, the layer before it, has the activation {config['activation']!r}"
    if len(draft.weights.get(path, ())) != kernel.slot + 1 + config["use_bias"]:
        return f"{path!r}, the layer before it, does not have the weights of a plain {record['class_name']}"
    if len(graph.nodes(producer)) != len(ports):
        return f"{path!r}, the layer before it, has other calls, too"
    if any(graph.readers[port] > 1 for port in ports):
        return f"other layers read the output of {path!r}, the layer before it, too"
    spec = specs(scope).get(ports[0])
    channel = 1 if config.get("data_format") == "channels_first" else -1
    if spec is None or norm["config"]["axis"] % len(spec.shape) != channel % len(spec.shape):
        return f"it normalises along axis {norm['config']['axis']}, which is not the channel axis of {path!r}"
    return None


def refuse_undone(draft: Draft, norm: str, fold: Fold) -> None:
    """Raises NotFoldable if a constraint of the layer would undo the folding at the next training step."""
    scope = parted(norm)[0]
    path = join_path(scope, fold.layer)
    record = draft.graph(scope).layers[fold.layer]
    kernel, (scale, shift) = kernel_of(record), affine_of(draft, scope, fold)
    first, arrays = kernel.slot, draft.weights[path]
    if not record["config"]["use_bias"]:
        arrays = (*arrays, np.zeros(len(scale), arrays[first].dtype))
    for slot, name in ((first, "pointwise_kernel" if first else "kernel"), (first + 1, "bias")):

        def with_norm(array: np.ndarray, slot: int = slot) -> np.ndarray:
            return scaled(kernel, (*arrays[:slot], array, *arrays[slot + 1 :]), scale, shift)[slot]

        constraint = constraint_of(record["config"], name)
        if not stays(constraint, arrays[slot], with_norm):
            raise NotFoldable(f"layer {norm!r} cannot be folded: {undone(path, name, constraint)}")


def kernel_of(record: Record) -> Kernel:
    """The kernel of a layer that can take over a normalisation."""
    kernel = rule_for(record).folds
    assert kernel is not None
    return kernel


def affine_of(draft: Draft, scope: str, fold: Fold) -> tuple[np.ndarray, np.ndarray]:
    """The scale and shift of a normalisation in inference, see `affine`."""
    config = draft.graph(scope).layers[fold.norm]["config"]
    return affine(config, draft.weights[join_path(scope, fold.norm)])


def folded(draft: Draft, folds: Mapping[str, Fold]) -> Draft:
    """The draft without some normalisations, whose scale and shift are part of the layers before them.

    Args:
        draft: the model.
        folds: path of each normalisation -> how it is folded.

    Raises:
        NotFoldable: see `refuse_undone`.
    """
    for path, fold in folds.items():
        refuse_undone(draft, path, fold)
    for scope, paths in groupby(lambda path: parted(path)[0], folds).items():
        draft = _folded(draft, scope, [folds[path] for path in paths])
    return draft


def _folded(draft: Draft, scope: str, folds: Sequence[Fold]) -> Draft:
    """The draft without some normalisations of one model."""
    graph = draft.graph(scope)
    records = {fold.layer: graph.layers[fold.layer] for fold in folds}
    arrays = {join_path(scope, fold.layer): with_affine(draft, scope, fold) for fold in folds}
    layers = {key: set_in(record, ("config", "use_bias"), True) for key, record in records.items()}
    graph = redirected(with_layers(graph, layers), merge(fold.ports for fold in folds))
    return replace(draft.with_graph(scope, graph).with_arrays(arrays), restarted=draft.restarted | arrays.keys())


def with_affine(draft: Draft, scope: str, fold: Fold) -> tuple[np.ndarray, ...]:
    """The weights of a layer that scales and shifts its output as the normalisation behind it does."""
    kernel = kernel_of(draft.graph(scope).layers[fold.layer])
    return scaled(kernel, draft.weights[join_path(scope, fold.layer)], *affine_of(draft, scope, fold))


def affine(config: Any, arrays: tuple[np.ndarray, ...]) -> tuple[np.ndarray, np.ndarray]:
    """The scale and shift of a batch normalisation in inference: it computes `x * scale + shift`. Shapes (channels,).

    >>> config = {"scale": False, "center": True, "epsilon": 0.0}
    >>> affine(config, (np.array([1.0]), np.array([3.0]), np.array([4.0])))
    (array([0.5]), array([-0.5]))
    """
    remaining = [array.astype(np.float64) for array in arrays]
    gamma = remaining.pop(0) if config["scale"] else 1.0
    beta = remaining.pop(0) if config["center"] else 0.0
    mean, variance = remaining[:2]
    scale = gamma / np.sqrt(variance + config["epsilon"])
    return scale, beta - mean * scale


def scaled(
    place: Kernel, arrays: tuple[np.ndarray, ...], scale: np.ndarray, shift: np.ndarray
) -> tuple[np.ndarray, ...]:
    """The weights of a layer whose output is scaled and shifted.

    Args:
        place: the place of the kernel among the weights, and its axes of output channels.
        arrays: the weights of the layer, with or without a bias.
        scale, shift: shapes (channels,).

    >>> kernel, bias = scaled(Kernel(0, (-1,)), (np.ones((1, 2)),), np.array([2.0, 3.0]), np.array([0.0, 1.0]))
    >>> kernel, bias
    (array([[2., 3.]]), array([0., 1.]))
    """
    slot, axes = place
    kernel = arrays[slot]
    bias = arrays[slot + 1] if len(arrays) > slot + 1 else np.zeros(len(scale))
    # Channels lie along one axis of the kernel, or along two: those of a depthwise kernel, inputs times multiplier.
    shape = [kernel.shape[axis] if axis in axes else 1 for axis in range(-kernel.ndim, 0)]
    new = kernel * scale.reshape(shape), bias * scale + shift
    return (*arrays[:slot], *(array.astype(kernel.dtype) for array in new))
