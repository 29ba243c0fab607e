"""Networks with more layers, that compute what they did.

After Net2DeeperNet of Chen, Goodfellow and Shlens, "Net2Net: Accelerating learning via knowledge transfer", 2016,
arXiv:1511.05641.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kerassurgery_fn.edits.base import edit
from kerassurgery_fn.edits.layers import InsertLayer, as_calls
from kerassurgery_fn.edits.precision import as_dtype
from kerassurgery_fn.edits.settings import check_name
from kerassurgery_fn.edits.steps.draft import Draft, parted
from kerassurgery_fn.edits.steps.draft_writing import Rewrite
from kerassurgery_fn.errors import BadValue, MisfitTensor
from kerassurgery_fn.graph import Record, Selector, as_selector
from kerassurgery_fn.rules.activations import applied_last
from kerassurgery_fn.rules.constrained import close, constraint_of, projected
from kerassurgery_fn.rules.dtypes import variable_dtype
from kerassurgery_fn.rules.layer import listed, quantized
from kerassurgery_fn.rules.registry import key_of
from kerassurgery_fn.values.snapshot import Snapshot

# Activations that leave alone what they have made.
IDEMPOTENT = {"linear", "relu", "relu6", "hard_tanh"}
RANKS = {"Dense": 0, "Conv1D": 1, "Conv2D": 2, "Conv3D": 3}


@edit
@dataclass(frozen=True)
class DeepenLayer(Rewrite):
    """One more layer after a Dense or Conv layer, of the same kind, that hands on what it reads until it is trained.

    It has the activation of what it follows where that leaves alone what it has made, as relu does, and none elsewhere.
    It is trained, whether or not the first one is. Nothing in it is drawn at random. It has the constraints of the
    first one where they leave the identity alone (NonNeg, UnitNorm, MaxNorm of one or more), and none elsewhere; it has
    its regularizers, which change the loss and not what the model computes.

    Args:
        layer: which layers, see `graph.selectors`; the new ones are configured like them.
        after: the layer that the new one follows, in place of the first: its activation or normalisation, say. Then
            `layer` is to be one.
        calls: the numbers of the calls of that layer, all by default; negative ones count from the end.
        kernel_size: of a new convolution; that of the first by default.
        name: the new layer's name; that of the first with a number by default.

    Raises (when called on a snapshot):
        UnknownLayer, AmbiguousLayer: no layer, or several where one is meant, of that name.
        BadValue: the layer is neither Dense nor a convolution, or it is quantized.
        MisfitTensor: what the new layer would read is not of the kind that the first makes.
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
        for path in paths:
            after = path if self.after is None else draft.find_one(self.after)
            new = identity_like(draft, path, after, self.kernel_size)
            draft = InsertLayer(new, after=after, calls=self.calls, name=self.name).redraw(draft)
        return draft


def identity_like(draft: Draft, path: str, after: str, kernel_size: tuple[int, ...] | None) -> Snapshot:
    """A layer of the kind of one that makes of what another makes just that.

    Raises:
        BadValue: the layer is neither Dense nor a convolution, or it is quantized.
        MisfitTensor: what the other makes is not of the kind that the layer makes.
    """
    record = draft.record(path)
    config, kind = record["config"], key_of(record)
    if kind not in RANKS or quantized(config["dtype"]):
        what = f"quantized {record['class_name']}" if kind in RANKS else record["class_name"]
        raise BadValue(
            f"layer {path!r} is a {what}, and only {', '.join(RANKS)} can be deepened; InsertLayer puts in any layer"
        )
    n = channels_after(draft, after, record)
    window = window_of(config, kernel_size, RANKS[kind])
    causal = config.get("padding") == "causal"
    own = {name: value for name, value in config.items() if not name.startswith("lora_")}
    arrays = [as_dtype(array, variable_dtype(config["dtype"])) for array in (identity(window, n, causal), np.zeros(n))]
    own |= {**changes(window, n, causal), **dict.fromkeys(undone_by(config, arrays))}
    made = {**own, "activation": activation_of(draft.record(after)), "trainable": True}
    bare = {name: value for name, value in record.items() if name != "build_config"}
    return Snapshot({**bare, "config": made}, {"": tuple(arrays)})


def undone_by(config: Record, arrays: Sequence[np.ndarray]) -> list[str]:
    """The fields of the constraints that would change an identity, given its kernel and bias, in training."""
    found = [constraint_of(config, name) for name in ("kernel", "bias")]
    return [
        one.field
        for one, array in zip(found, arrays, strict=True)
        if one and ((after := projected(one, array)) is None or not close(after, array))
    ]


def channels_after(draft: Draft, after: str, record: Record) -> int:
    """How many channels there are in what one layer makes, as another one counts them.

    Raises:
        MisfitTensor: the other reads no such tensors.
    """
    scope, key = parted(after)
    spec = draft.facts(scope).specs.get(draft.graph(scope).first(key))
    rank, shape = RANKS[key_of(record)], spec.shape if spec else ()
    channels = (shape or (None,))[1 if rank and record["config"]["data_format"] == "channels_first" else -1]
    if channels is None or (rank and len(shape) != rank + 2):
        raise MisfitTensor(
            f"{after!r} makes a tensor of shape {shape or 'unknown'}, and no {record['class_name']} could be put after "
            "it; give another layer as after="
        )
    return channels


def window_of(config: Record, kernel_size: tuple[int, ...] | None, rank: int) -> tuple[int, ...]:
    """The kernel size of a new convolution of some rank, none for a dense layer.

    Raises:
        BadValue: what is given is no kernel size of that rank.

    >>> window_of({"kernel_size": [3, 3]}, None, 2), window_of({}, (1,), 3), window_of({}, None, 0)
    ((3, 3), (1, 1, 1), ())
    """
    given = kernel_size or (tuple(config["kernel_size"]) if rank else ())
    window = given * rank if len(given) == 1 and rank else given
    if len(window) != rank or not all(type(size) is int and size > 0 for size in window):
        raise BadValue(
            f"kernel_size of the layer after {config['name']!r} cannot be {kernel_size}: that has {rank or 'no'} axes "
            "of space"
        )
    return window


def changes(window: tuple[int, ...], n: int, causal: bool) -> dict[str, Any]:
    """What the config of a layer that is the identity says otherwise than that of the layer which it is like."""
    if not window:
        return {"units": n, "use_bias": True}
    ones, padding = [1] * len(window), "causal" if causal else "same"
    kernel = {"kernel_size": list(window), "strides": ones, "dilation_rate": ones, "groups": 1, "padding": padding}
    return {"filters": n, "use_bias": True, **kernel}


def identity(window: tuple[int, ...], n: int, causal: bool = False) -> np.ndarray:
    """The kernel of a dense layer or a convolution that makes of n channels just these.

    >>> identity((3,), 2)[1]
    array([[1., 0.],
           [0., 1.]])
    """
    kernel = np.zeros((*window, n, n))
    kernel[tuple(size - 1 if causal else (size - 1) // 2 for size in window)] = np.eye(n)
    return kernel


def activation_of(record: Record) -> str:
    """The activation that a layer applies last, if it is known and idempotent; `linear` if not.

    >>> activation_of({"module": "keras.layers", "class_name": "Dense", "config": {"activation": "tanh"}})
    'linear'
    """
    name = applied_last(record)
    return name if name in IDEMPOTENT else "linear"
