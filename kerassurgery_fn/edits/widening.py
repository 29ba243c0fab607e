"""Adds channels to layers; the outputs of the model stay the same.

The method is Net2WiderNet of Chen, Goodfellow and Shlens, "Net2Net: Accelerating learning via knowledge transfer",
2016, arXiv:1511.05641.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from kerassurgery_fn.analysis.channel_flow import Flow, analyse_for
from kerassurgery_fn.edits.base import Edit, edit
from kerassurgery_fn.edits.steps.additions import refuse_misplaced
from kerassurgery_fn.edits.steps.addresses import addressed
from kerassurgery_fn.edits.steps.axis_places import Sources
from kerassurgery_fn.edits.steps.channel_deletion import Allowed, refuse_pinned
from kerassurgery_fn.edits.steps.channel_sources import NotTogether, grower, widener
from kerassurgery_fn.edits.steps.copied_lines import appended, drawn_copies, only_rows, parted_widths, refuse_new_words
from kerassurgery_fn.edits.steps.cutting import copied_arrays, copied_constants, cut_weight, recounted
from kerassurgery_fn.edits.steps.equal_channels import refuse_unlike
from kerassurgery_fn.edits.steps.indices import as_amount, as_seed, is_index
from kerassurgery_fn.edits.steps.new_bands import (
    ZERO,
    Bands,
    as_fill,
    filled_constants,
    with_filled_weights,
)
from kerassurgery_fn.errors import BadValue, CannotWiden
from kerassurgery_fn.rules.constrained import stays, undone
from kerassurgery_fn.rules.layer import Weight
from kerassurgery_fn.values.frozen import set_all
from kerassurgery_fn.values.snapshot import Snapshot


@edit
@dataclass(frozen=True, init=False)
class WidenChannels(Edit):
    """Adds channels to layers. The outputs of the model stay the same.

    The new channels of a layer are copies of its old channels. A layer that reads a channel and its copies gets the old
    weights divided by the number of copies, so that the sum stays the same.

    Channels that are tied to a copied channel (in the other branch of an Add, in all layers of a residual stream) are
    copied, too. Regularizers stay, and also apply to the copies: the loss changes, the outputs do not.

    Inputs of the model can get new channels after their old ones (bands of a satellite image, features), if
    `allow_input_change` is set. `fill` sets the weights for these channels. With zeros, the outputs do not depend on
    the values of the new channels.

    Args:
        layer: a layer, or a mapping from layers to numbers of channels, as in `DeleteChannels`.
        to: the new number of channels. The channels to copy are drawn at random, with replacement.
        noise: the standard deviation of the noise that is added to the kernels of copies, relative to the standard
            deviation of the kernel. Without noise, a copy and its original get the same gradients and stay equal in
            training. With noise, the outputs change a little.
        seed: the seed for the choice of channels and for the noise.
        allow_output_change: whether outputs of the model can get channels.
        allow_input_change: whether inputs of the model can get channels, or rows for more values, see `DeleteChannels`.
        fill: the weights for new channels of inputs: `"zero"`, `"mean"` (the mean over all old channels), or indices of
            old channels whose weights the new channels get, in turn. Weights that do not sum over the channels (a
            normalisation, a depthwise kernel) get the mean in place of zeros.
        **kinds: numbers of other kinds of channels, as in `WidenChannels("attention", num_heads=12)`.

    Raises (when called on a snapshot):
        UnknownLayer, AmbiguousLayer: no layer, or several layers, have this name.
        NoChannels: the layer creates no channels.
        BadValue: the layer has more channels already.
        PinnedChannels: the number of channels cannot change; the message says why.
        PartialGroup: the channels are a grid (heads or groups, and places in them), and the new number of channels is
            not a multiple of a size of this grid.
        CannotWiden: a layer would compute different outputs with copied channels, or it is not known whether it would;
            or a constraint would change the wider weights at the next training step.

    >>> WidenChannels("conv_1", 96)
    WidenChannels(widths={'conv_1': 96}, noise=0.0, seed=0, allow_output_change=False,
    allow_input_change=False, fill='zero')
    """

    widths: Mapping[str, int]
    noise: float = 0.0
    seed: int = 0
    allow_output_change: bool = False
    allow_input_change: bool = False
    fill: str | tuple[int, ...] = ZERO

    def __init__(
        self,
        layer: Any,
        to: int | None = None,
        *,
        noise: float = 0.0,
        seed: int = 0,
        allow_output_change: bool = False,
        allow_input_change: bool = False,
        fill: Any = ZERO,
        **kinds: int,
    ) -> None:
        arguments = ["to", "noise", "seed", "allow_output_change", "allow_input_change", "fill"]
        named = addressed(type(self).__name__, layer, to, kinds, _width, "width", arguments)
        object.__setattr__(self, "widths", named)
        object.__setattr__(self, "noise", noise)
        object.__setattr__(self, "seed", seed)
        object.__setattr__(self, "allow_output_change", allow_output_change)
        object.__setattr__(self, "allow_input_change", allow_input_change)
        object.__setattr__(self, "fill", fill)
        self.__post_init__()

    def __post_init__(self) -> None:
        object.__setattr__(self, "noise", as_amount(self.noise, "noise"))
        object.__setattr__(self, "seed", as_seed(self.seed))
        object.__setattr__(self, "fill", as_fill(self.fill))

    def __call__(self, snapshot: Snapshot) -> Snapshot:
        flow = self.flow(snapshot)
        inputs, layers = parted_widths(flow, self.widths)
        if inputs:
            snapshot = self.with_bands(snapshot, flow, inputs)
        return self.with_copies(snapshot, layers) if layers else snapshot

    def flow(self, snapshot: Snapshot) -> Flow:
        return analyse_for(snapshot, self.widths, self.allow_input_change)

    def with_bands(self, snapshot: Snapshot, flow: Flow, widths: Mapping[str, int]) -> Snapshot:
        """The snapshot with new channels of inputs."""
        copies, inputs = appended(flow, widths, self.fill)
        refuse_new_words(flow, copies > 1)
        wider, sources = self.grown(snapshot, flow, copies, is_copy=False)
        bands = Bands(flow, sources, inputs, self.fill)
        record = set_all(wider.record, filled_constants(wider.record, bands))
        return Snapshot(record, with_filled_weights(wider.weights, bands), wider.training)

    def grown(
        self, snapshot: Snapshot, flow: Flow, copies: np.ndarray, is_copy: bool = True
    ) -> tuple[Snapshot, Sources]:
        """The snapshot with repeated channels, and the old position of each new position of its axes.

        Raises:
            PinnedChannels: the number of channels cannot change.
            CannotWiden: a layer would compute different outputs, or it is not known whether it would.
        """
        refuse_pinned(flow, copies > 1, Allowed.by([self]), "copied")
        if is_copy or not only_rows(flow, copies > 1):
            refuse_unlike(flow, copies > 1)
        refuse_misplaced(flow, grower(flow, copies), "copied")
        return widened(snapshot, flow, copies, self.flow)

    def with_copies(self, snapshot: Snapshot, widths: Mapping[str, int]) -> Snapshot:
        """The snapshot with copies of channels of layers."""
        flow, rng = self.flow(snapshot), np.random.default_rng(self.seed)
        copies = drawn_copies(flow, widths, rng, Allowed.by([self]))
        if (copies == 1).all():
            return snapshot
        wider, sources = self.grown(snapshot, flow, copies)
        refuse_undone(snapshot, flow, sources)
        weights = dict(wider.weights)
        for path in weights.keys() & flow.weights.keys():
            weights[path] = divided(weights[path], flow.weights[path], sources)
        for path in [path for path in flow.weights if path in weights and self.noise]:
            weights[path] = shaken(weights[path], flow.weights[path], sources, self.noise, rng)
        return Snapshot(wider.record, weights, wider.training)


def _width(to: Any) -> int:
    if not is_index(to) or to < 1:
        raise BadValue(f"the new number of channels of a layer is an integer from 1 on, not {to!r}")
    return int(to)


def refuse_undone(snapshot: Snapshot, flow: Flow, sources: Sources) -> None:
    """Raises CannotWiden if a constraint would change the wider weights at the next training step."""

    def wider(array: np.ndarray, weight: Weight) -> np.ndarray:
        return _divided(cut_weight(array, weight, sources), weight, sources)

    for path in flow.weights.keys() & snapshot.weights.keys():
        for array, weight in zip(snapshot.weights[path], flow.weights[path], strict=False):
            if weight.constraint and not stays(weight.constraint, array, partial(wider, weight=weight)):
                raise CannotWiden("the channels cannot be widened: " + undone(path, weight.name, weight.constraint))


# --- wider weights


def widened(
    snapshot: Snapshot, flow: Flow, copies: np.ndarray, flow_of: Callable[[Snapshot], Flow]
) -> tuple[Snapshot, Sources]:
    """The snapshot in which each final id is repeated, and the old position of each new position of its axes.

    Args:
        snapshot: the model.
        flow: its channels.
        copies: how often each final id occurs in the wider model, shape (ids + 1,); the last one is for `FIXED`.
        flow_of: snapshot -> its channels. It must analyse the wider model as `flow` was analysed.

    Raises:
        CannotWiden: the channels of the wider model do not correspond to those of the model.
    """
    record = set_all(snapshot.record, recounted(snapshot, flow, grower(flow, copies)))
    wider = flow_of(Snapshot(record, {}))
    try:
        sources = widener(flow, wider, copies)
        record = set_all(record, copied_constants(snapshot, flow, sources))
        wider_snapshot = snapshot.with_arrays(record, *copied_arrays(snapshot, flow, sources))
    except NotTogether:
        raise CannotWiden(
            f"a channel and its copies would not stay together in {snapshot.name!r}: it probably splits or shuffles "
            "channels in a way that depends on their number; widen other layers"
        ) from None
    return wider_snapshot, sources


def divided(arrays: tuple[np.ndarray, ...], weights: Sequence[Weight], sources: Sources) -> tuple[np.ndarray, ...]:
    """The weights of a layer, divided by the number of copies along the axes that are summed over; the same tuple if
    the layer sums over no copies."""
    new_arrays = tuple(_divided(array, weight, sources) for array, weight in zip(arrays, weights, strict=False))
    return arrays if all(new is old for new, old in zip(new_arrays, arrays, strict=True)) else new_arrays


def _divided(array: np.ndarray, weight: Weight, sources: Sources) -> np.ndarray:
    for number in weight.summed or ():
        if (positions := sources(weight.axes[number])) is not None:
            times = np.bincount(positions)[positions]
            array = (array / _along(times, number, array.ndim)).astype(array.dtype)
    return array


def shaken(
    arrays: tuple[np.ndarray, ...], weights: Sequence[Weight], sources: Sources, noise: float, rng: np.random.Generator
) -> tuple[np.ndarray, ...]:
    """The weights of a layer, with noise on the kernels of copies."""
    return tuple(_shaken(a, weight, sources, noise, rng) for a, weight in zip(arrays, weights, strict=False))


def _shaken(array: np.ndarray, weight: Weight, sources: Sources, noise: float, rng: np.random.Generator) -> np.ndarray:
    for number, axis in enumerate(weight.axes):
        if weight.summed and number not in weight.summed and (positions := sources(axis)) is not None:
            copy = np.ones(len(positions), bool)
            copy[np.unique(positions, return_index=True)[1]] = False
            spread = noise * array.std() * rng.standard_normal(array.shape)
            array = (array + spread * _along(copy, number, array.ndim)).astype(array.dtype)
    return array


def _along(values: np.ndarray, axis: int, rank: int) -> np.ndarray:
    """A vector as an array that broadcasts along one axis of an array of a rank."""
    return values.reshape([-1 if i == axis else 1 for i in range(rank)])
