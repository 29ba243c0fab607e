"""Convolutions: plain, grouped, transposed, depthwise and separable, in one to three dimensions."""

from __future__ import annotations

from collections.abc import Sequence
from operator import itemgetter
from typing import Any

from kerassurgery_fn.channels import Axis, has_ids, merge, size
from kerassurgery_fn.rules.activations import activated
from kerassurgery_fn.rules.data_formats import joined, parts, plain
from kerassurgery_fn.rules.layer import Layer, Tensor
from kerassurgery_fn.rules.macs import once_per_input_position
from kerassurgery_fn.rules.registry import rule
from kerassurgery_fn.rules.rule_fields import Kernel
from kerassurgery_fn.rules.size_checks import check_groups

CONVOLUTION: dict[str, Any] = {"last": itemgetter("activation"), "equal_channels": True, "needs_floats": True}
PLAIN: dict[str, Any] = {
    **CONVOLUTION, "folds": Kernel(slot=0, axes=(-1,)), "deepens": True, "requires": (check_groups,),
}  # fmt: skip


@rule("Conv1D", rank=3, **PLAIN)
@rule("Conv2D", rank=4, **PLAIN)
@rule("Conv3D", rank=5, **PLAIN)
def conv(layer: Layer, inputs: Tensor, **_: Any) -> Tensor:
    batch, space, channel = parts(layer, inputs)
    i, o = grouped(layer, channel, layer.fresh("filters"))
    window, left = windowed(layer, space)
    layer.weights(kernel="..i>o", bias="o", space=window, i=i, o=o)
    return activated(layer, biased(layer, joined(layer, batch, left, o), o))


def grouped(layer: Layer, channel: Axis, o: Axis) -> tuple[Axis, Axis]:
    """The input and output axis of the kernel of a convolution.

    With groups, inputs and outputs are grids of (group, place in the group). Both have the same groups, and the kernel
    has one input channel for each place:

        groups=2    inputs   a0 a1 b0 b1        kernel (..., 2 places, 4 outputs)
                    outputs  a0 a1 b0 b1
    """
    groups = layer["groups"]
    if groups == 1:
        return channel, o
    group_in, place_in = layer.grid(channel, (groups, (size(channel) or 0) // groups))
    group_out, _ = layer.grid(o, (groups, (size(o) or 0) // groups))
    layer.tie(group_in, group_out)
    layer.size("groups", group_out)
    return place_in, o


TRANSPOSED: dict[str, Any] = {**CONVOLUTION, "folds": Kernel(slot=0, axes=(-2,)), "macs": once_per_input_position}


@rule("Conv1DTranspose", rank=3, **TRANSPOSED)
@rule("Conv2DTranspose", rank=4, **TRANSPOSED)
@rule("Conv3DTranspose", rank=5, **TRANSPOSED)
def conv_transpose(layer: Layer, inputs: Tensor, **_: Any) -> Tensor:
    batch, space, channel = parts(layer, inputs)
    o = layer.fresh("filters")
    layer.weights(kernel="..o<i", bias="o", space=layer["kernel_size"], i=channel, o=o)
    return activated(layer, biased(layer, joined(layer, batch, spread(layer, space), o), o))


DEPTHWISE: dict[str, Any] = {**CONVOLUTION, "folds": Kernel(slot=0, axes=(-2, -1))}


@rule("DepthwiseConv1D", rank=3, **DEPTHWISE)
@rule("DepthwiseConv2D", rank=4, **DEPTHWISE)
def depthwise(layer: Layer, inputs: Tensor, **_: Any) -> Tensor:
    batch, space, channel = parts(layer, inputs)
    m, w = multiplied(layer, channel)
    window, left = windowed(layer, space)
    layer.weights(kernel="..>im", bias="w", space=window, i=channel, m=m, w=w)
    return activated(layer, biased(layer, joined(layer, batch, left, w), w))


# The pointwise kernel is the second weight.
SEPARABLE: dict[str, Any] = {**CONVOLUTION, "folds": Kernel(slot=1, axes=(-1,))}


@rule("SeparableConv1D", rank=3, **SEPARABLE)
@rule("SeparableConv2D", rank=4, **SEPARABLE)
def separable(layer: Layer, inputs: Tensor, **_: Any) -> Tensor:
    batch, space, channel = parts(layer, inputs)
    m, w = multiplied(layer, channel)
    o = layer.fresh("filters")
    window, left = windowed(layer, space)
    pointwise = "1" * len(space) + "w>o"
    layer.weights(
        depthwise_kernel="..>im",
        pointwise_kernel=pointwise,
        bias="o",
        space=window,
        i=channel,
        m=m,
        w=w,
        o=o,
    )
    return activated(layer, biased(layer, joined(layer, batch, left, o), o))


def biased(layer: Layer, x: Tensor, channel: Axis) -> Tensor:
    """A tensor after the bias is added. With `channels_first`, Keras adds a bias of shape (1, channels, 1, ...), so
    this addition is recorded, see `edits.steps.additions`."""
    if layer.get("use_bias") and layer.get("data_format") == "channels_first":
        layer.adds(x, joined(layer, 1, [1] * (len(x) - 2), channel), "its bias")
    return x


def multiplied(layer: Layer, channel: Axis) -> tuple[Axis, Axis]:
    """The multiplier axis of a depthwise kernel, and its output channels: `depth_multiplier` for each input channel."""
    times = layer["depth_multiplier"]
    if times == 1:
        return 1, channel
    m = layer.fresh("depth_multiplier")
    return m, merge([channel, m])


def windowed(layer: Layer, space: Sequence[Axis]) -> tuple[list[Axis], list[int | None]]:
    """The spatial axes of a kernel, and the spatial sizes of the output.

    If a spatial axis carries channels and the window covers all of it, the kernel sums over these channels as over
    input channels, and the kernel's size follows their number.
    """
    sizes = each(layer["kernel_size"], len(space))
    if layer["padding"] != "valid" or not any(map(has_ids, space)):
        return [*sizes], slid(layer, space, sizes)
    covered = [has_ids(axis) and 1 < n == size(axis) for axis, n in zip(space, sizes, strict=True)]
    for i, axis in enumerate(space):
        if covered[i]:
            layer.size(("kernel_size", i), axis)
    window: list[Axis] = [axis if all_ else n for axis, n, all_ in zip(space, sizes, covered, strict=True)]
    return window, slid(layer, [size(axis) if all_ else axis for axis, all_ in zip(space, covered, strict=True)])


def slid(layer: Layer, space: Sequence[Axis], windows: Any = None) -> list[int | None]:
    """The spatial sizes of the output of a layer that slides windows, by default windows of its `kernel_size`."""
    sizes = plain(layer, space, "slides a window")
    windows, strides, dilations = geometry(layer, len(sizes), windows)
    if layer["padding"] == "valid":
        reach = [d * (k - 1) for k, d in zip(windows, dilations, strict=True)]
    else:
        reach = [0] * len(sizes)
    return [n if n is None else (n - r - 1) // s + 1 for n, r, s in zip(sizes, reach, strides, strict=True)]


def spread(layer: Layer, space: Sequence[Axis], windows: Any = None) -> list[int | None]:
    """The spatial sizes of the output of a transposed convolution."""
    sizes = plain(layer, space, "slides a window")
    windows, strides, dilations = geometry(layer, len(sizes), windows)
    extras = each(layer.get("output_padding"), len(sizes))
    return [
        n if n is None else _spread(n, (k - 1) * d + 1, s, layer["padding"], e)
        for n, k, s, d, e in zip(sizes, windows, strides, dilations, extras, strict=True)
    ]


def geometry(layer: Layer, rank: int, windows: Any = None) -> tuple[list[int], list[int], list[int]]:
    """The window, strides and dilation in each dimension. The default stride is 1, or the window for pooling."""
    windows = each(layer["kernel_size"] if windows is None else windows, rank)
    strides = layer.get("strides") or (windows if layer.config.keys() & {"pool_size", "size"} else 1)
    return windows, each(strides, rank), each(layer.get("dilation_rate") or 1, rank)


def each(value: Any, rank: int) -> list[Any]:
    """A field with a number for each dimension; a single number stands for all dimensions.

    >>> each(2, 3), each([1, 2], 2)
    ([2, 2, 2], [1, 2])
    """
    return list(value) if isinstance(value, (list, tuple)) else [value] * rank


def _spread(n: int, window: int, stride: int, padding: str, extra: int | None) -> int:
    if padding == "same":
        return n * stride if extra is None else (n - 1) * stride + window % 2 + extra
    return (n - 1) * stride + window + (max(stride - window, 0) if extra is None else extra)
