"""Deeper networks that compute the same function.

The method is Net2DeeperNet of Chen, Goodfellow and Shlens, "Net2Net: Accelerating learning via knowledge transfer",
2016, arXiv:1511.05641.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, reduce
from typing import Any

import numpy as np
from toolz import dissoc, first, keyfilter

from kerassurgery_fn.edits.base import edit
from kerassurgery_fn.edits.insertion import InsertLayer
from kerassurgery_fn.edits.precision import as_dtype
from kerassurgery_fn.edits.settings import check_name
from kerassurgery_fn.edits.steps.draft import Draft, SpecsOf, parted
from kerassurgery_fn.edits.steps.draft_writing import GraphEdit
from kerassurgery_fn.edits.steps.indices import as_calls
from kerassurgery_fn.errors import BadValue, MisfitTensor
from kerassurgery_fn.graph import Record, Selector, as_selector
from kerassurgery_fn.rules.activations import IDEMPOTENT, applied_last
from kerassurgery_fn.rules.config_values import listed, quantized
from kerassurgery_fn.rules.constrained import close, constraint_of, projected
from kerassurgery_fn.rules.dtypes import variable_dtype
from kerassurgery_fn.rules.registry import RULES, rank_of, rule_for
from kerassurgery_fn.values.snapshot import Snapshot


@edit
@dataclass(frozen=True)
class DeepenLayer(GraphEdit):
    """Inserts a layer of the same class after a Dense or Conv layer. The new layer computes the identity until it is
    trained.

    The new layer has the activation of the layer that it follows if that activation is idempotent, as relu is, and
    otherwise none. It is trainable, whether or not the old layer is, and no weight is drawn at random. It has the
    constraints of the old layer that do not change the identity (NonNeg, UnitNorm, MaxNorm of one or more), and all of
    its regularizers, which change the loss but not the function of the model.

    Args:
        layer: the layers, see `graph.selectors`. Each new layer has the config of its layer.
        after: the layer that the new layer follows, if it is not `layer` itself: its activation or normalisation, for
            example. Then `layer` must select one layer.
        calls: the numbers of the calls of that layer; all calls by default. Negative numbers count from the end.
        kernel_size: the kernel size of a new convolution; by default that of the old one.
        name: the name of the new layer; by default the name of the old layer with a number.

    Raises (when called on a snapshot):
        UnknownLayer, AmbiguousLayer: no layer has this name, or several layers where one is needed.
        BadValue: the layer is neither Dense nor a convolution, or it is quantized.
        MisfitTensor: the new layer cannot read the output of the layer that it follows.
        UnknownCall, NameTaken: as for `InsertLayer`.

    >>> DeepenLayer("conv_1", after="relu_1")
    DeepenLayer(layer='conv_1', after='relu_1', calls=None, kernel_size=None, name=None)
    """

    layer: Selector
    after: Selector | None = None
    calls: tuple[int, ...] | None = None
    kernel_size: tuple[int, ...] | None = None
    name: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "layer", as_selector(self.layer))
        object.__setattr__(self, "calls", as_calls(self.calls))
        if self.after is not None:
            object.__setattr__(self, "after", as_selector(self.after))
        if self.kernel_size is not None:
            object.__setattr__(self, "kernel_size", tuple(listed(self.kernel_size)))
        if self.name is not None:
            check_name(self.name)

    def redraw(self, draft: Draft) -> Draft:
        paths = draft.find(self.layer) if self.after is None else [draft.find_one(self.layer)]
        followed = paths if self.after is None else [draft.find_one(self.after)]
        before = draft = reduce(Draft.exposed, followed, draft)
        specs = cache(lambda scope: before.facts(scope).specs)  # identities change no shape
        layers = {
            after: identity_like(draft, path, after, self.kernel_size, specs)
            for path, after in zip(paths, followed, strict=True)
        }
        if not layers:
            return draft
        insertion = InsertLayer(first(layers.values()), after=tuple(followed), calls=self.calls, name=self.name)
        return insertion.beside(draft, before, layers)


def identity_like(draft: Draft, path: str, after: str, kernel_size: tuple[int, ...] | None, specs: SpecsOf) -> Snapshot:
    """The new layer: it has the class and config of one layer, and computes the identity on the output of another.

    Args:
        draft: the model.
        path: the path of the layer whose class and config the new layer has.
        after: the path of the layer that it follows.
        kernel_size: the kernel size that the user asks for, if any.
        specs: path of a model -> the specs of its tensors.

    Raises:
        BadValue: the layer is neither Dense nor a convolution, or it is quantized.
        MisfitTensor: the new layer cannot read that output.
    """
    record = draft.record(path)
    config = record["config"]
    rank = spatial_rank(path, record)
    n = channels_after(draft, after, record, rank, specs)
    window = window_of(config, kernel_size, rank)
    causal = config.get("padding") == "causal"
    arrays = [as_dtype(array, variable_dtype(config["dtype"])) for array in (identity(window, n, causal), np.zeros(n))]
    config = {
        **keyfilter(lambda field: not field.startswith("lora_"), config),
        **changes(window, n, causal),
        **dict.fromkeys(undone_by(config, arrays)),
        "activation": activation_of(draft.record(after)),
        "trainable": True,
    }
    return Snapshot({**dissoc(record, "build_config"), "config": config}, {"": tuple(arrays)})


def spatial_rank(path: str, record: Record) -> int:
    """The number of spatial axes of the kernel of a layer that can be deepened: 0 for Dense.

    Raises:
        BadValue: the layer is neither Dense nor a convolution, or it is quantized.
    """
    known, mode = rule_for(record).deepens, quantized(record["config"].get("dtype"))
    if mode or not known:
        classes = ", ".join(sorted(name for name, rule in RULES.items() if rule.deepens))
        what = f"quantized {record['class_name']}" if known else record["class_name"]
        raise BadValue(f"layer {path!r} is a {what}, and only {classes} can be deepened; use InsertLayer")
    return (rank_of(record) or 2) - 2


def undone_by(config: Record, arrays: Sequence[np.ndarray]) -> list[str]:
    """The fields of the constraints that would change the kernel or bias of the identity at a training step."""
    constraints = [constraint_of(config, name) for name in ("kernel", "bias")]
    return [
        constraint.field
        for constraint, array in zip(constraints, arrays, strict=True)
        if constraint and ((after := projected(constraint, array)) is None or not close(after, array))
    ]


def channels_after(draft: Draft, after: str, record: Record, rank: int, specs: SpecsOf) -> int:
    """The number of channels in the output of a layer, on the channel axis of the new layer.

    Args:
        draft: the model.
        after: the path of the layer.
        record: the record of which the new layer is a copy.
        rank: the number of spatial axes of the new layer.
        specs: path of a model -> the specs of its tensors.

    Raises:
        MisfitTensor: the new layer cannot read this output.
    """
    scope, key = parted(after)
    spec = specs(scope).get(draft.graph(scope).first(key))
    shape = spec.shape if spec else ()
    channels = (shape or (None,))[1 if rank and record["config"]["data_format"] == "channels_first" else -1]
    if channels is None or (rank and len(shape) != rank + 2):
        raise MisfitTensor(
            f"the output of {after!r} has the shape {shape or 'unknown'}, which a {record['class_name']} cannot read; "
            "give another layer as after="
        )
    return channels


def window_of(config: Record, kernel_size: tuple[int, ...] | None, rank: int) -> tuple[int, ...]:
    """The kernel size of the new layer; empty for a dense layer.

    Args:
        config: the config of which the new layer has a copy.
        kernel_size: the kernel size that the user asks for, if any.
        rank: the number of spatial axes.

    Raises:
        BadValue: `kernel_size` has another number of axes, or sizes that are not positive integers.

    >>> window_of({"kernel_size": [3, 3]}, None, 2), window_of({}, (1,), 3), window_of({}, None, 0)
    ((3, 3), (1, 1, 1), ())
    """
    sizes = kernel_size or (tuple(config["kernel_size"]) if rank else ())
    window = sizes * rank if len(sizes) == 1 and rank else sizes
    if len(window) != rank or not all(type(size) is int and size > 0 for size in window):
        raise BadValue(
            f"the layer after {config['name']!r} has {rank or 'no'} spatial axes, so its kernel_size cannot be "
            f"{kernel_size}"
        )
    return window


def changes(window: tuple[int, ...], n: int, causal: bool) -> dict[str, Any]:
    """The config fields of the identity that differ from those of the layer whose config it has."""
    if not window:
        return {"units": n, "use_bias": True}
    ones, padding = [1] * len(window), "causal" if causal else "same"
    kernel = {"kernel_size": list(window), "strides": ones, "dilation_rate": ones, "groups": 1, "padding": padding}
    return {"filters": n, "use_bias": True, **kernel}


def identity(window: tuple[int, ...], n: int, causal: bool = False) -> np.ndarray:
    """The kernel of a dense layer or a convolution that computes the identity on n channels.

    >>> identity((3,), 2)[1]
    array([[1., 0.],
           [0., 1.]])
    """
    kernel = np.zeros((*window, n, n))
    kernel[tuple(size - 1 if causal else (size - 1) // 2 for size in window)] = np.eye(n)
    return kernel


def activation_of(record: Record) -> str:
    """The activation that a layer applies last, if it is known and idempotent; otherwise `linear`.

    >>> activation_of({"module": "keras.layers", "class_name": "Dense", "config": {"activation": "tanh"}})
    'linear'
    """
    name = applied_last(record)
    return name if name in IDEMPOTENT else "linear"
