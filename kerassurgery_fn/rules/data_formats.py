"""The axes of a tensor in the `data_format` of a layer: batch, space and channels."""

from __future__ import annotations

from collections.abc import Sequence

from kerassurgery_fn.channels import Axis, sizes_of
from kerassurgery_fn.rules.layer import Layer, Tensor


def parts(layer: Layer, x: Tensor) -> tuple[Axis, list[Axis], Axis]:
    """The batch axis, the spatial axes and the channel axis of a tensor in the layer's `data_format`."""
    if layer.get("data_format") == "channels_first":
        return x[0], list(x[2:]), x[1]
    return x[0], list(x[1:-1]), x[-1]


def joined(layer: Layer, batch: Axis, space: Sequence[Axis], channel: Axis) -> Tensor:
    """The tensor with these axes in the layer's `data_format`, the inverse of `parts`."""
    if layer.get("data_format") == "channels_first":
        return (batch, channel, *space)
    return (batch, *space, channel)


def plain(layer: Layer, axes: Sequence[Axis], verb: str) -> list[int | None]:
    """The sizes of axes whose positions the layer combines, which pins them. `verb` says how, as in "pools"."""
    layer.pin(list(axes), f"{verb} along it")
    return list(sizes_of(axes))
