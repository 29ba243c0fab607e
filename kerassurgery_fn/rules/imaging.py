"""Operations on images."""

from __future__ import annotations

from typing import Any

from kerassurgery_fn.channels import merge
from kerassurgery_fn.rules.config_values import listed
from kerassurgery_fn.rules.convolution import slid
from kerassurgery_fn.rules.data_formats import joined, parts, plain
from kerassurgery_fn.rules.layer import Layer, NoRule, Tensor
from kerassurgery_fn.rules.pooling import adaptive_pooling, pooling
from kerassurgery_fn.rules.registry import rule


@rule("ops.MaxPool", equal_channels=True)
@rule("ops.AveragePool", equal_channels=True, needs_floats=True)
def pool(layer: Layer, inputs: Tensor) -> Tensor:
    return pooling(layer, inputs)


@rule("ops.AdaptiveMaxPool", "ops.AdaptiveAveragePool")
def adaptive_pool(layer: Layer, inputs: Tensor) -> Tensor:
    return adaptive_pooling(layer, inputs)


@rule("ops.Resize", equal_channels=True)
def resize(layer: Layer, images: Tensor) -> Tensor:
    return joined_with(layer, images, list(layer["size"]), "resizes")


@rule("ops.PadImages")
def pad_images(layer: Layer, images: Tensor) -> Tensor:
    return joined_with(layer, images, framed(layer, images, "padding", 1), "pads")


@rule("ops.CropImages")
def crop_images(layer: Layer, images: Tensor) -> Tensor:
    return joined_with(layer, images, framed(layer, images, "cropping", -1), "crops")


def framed(layer: Layer, images: Tensor, what: str, sign: int) -> list[int | None]:
    """The sizes of images after a frame is added or removed, or the target sizes in the config.

    Args:
        layer: the operation.
        images: its input.
        what: "padding" or "cropping", as in the names of its config fields.
        sign: 1 if the frame is added, -1 if it is removed.
    """
    framed_sizes: list[int | None] = []
    sides = (("target_height", "top", "bottom"), ("target_width", "left", "right"))
    for n, (target, *frame) in zip(plain(layer, parts(layer, images)[1], "frames"), sides, strict=True):
        widths = [layer[f"{side}_{what}"] for side in frame]
        framed_sizes.append(layer[target] or (None if n is None or None in widths else n + sign * sum(widths)))
    return framed_sizes


@rule("ops.GaussianBlur")
def blur(layer: Layer, images: Tensor) -> Tensor:
    return moved(layer, images)


@rule("ops.AffineTransform")
def affine_transform(layer: Layer, images: Tensor, transform: Any) -> Tensor:
    return moved(layer, images, transform)


@rule("ops.PerspectiveTransform")
def perspective_transform(layer: Layer, images: Tensor, start_points: Any, end_points: Any) -> Tensor:
    return moved(layer, images, start_points, end_points)


@rule("ops.ElasticTransform")
def elastic_transform(layer: Layer, images: Tensor) -> Tensor:
    return moved(layer, images)


def moved(layer: Layer, images: Tensor, *parameters: Any) -> Tensor:
    """Images whose pixels are moved, in the same way in each channel. The tensors that control the move are pinned."""
    layer.pin([tensor for tensor in parameters if isinstance(tensor, tuple)], "moves pixels by it")
    plain(layer, parts(layer, images)[1], "moves pixels")
    return images


def joined_with(layer: Layer, images: Tensor, sizes: list[int | None], verb: str) -> Tensor:
    """A batch of images after a change of their sizes that is the same in each channel."""
    if len(images) != 4:
        raise NoRule(f"{verb} a single image")
    batch, space, channel = parts(layer, images)
    plain(layer, space, verb)
    return joined(layer, batch, sizes, channel)


@rule("ops.SobelEdges")
def sobel_edges(layer: Layer, images: Tensor) -> Tensor:
    return (*moved(layer, images), 2)


@rule("ops.ExtractPatches")
def extract_patches(layer: Layer, images: Tensor) -> Tensor:
    batch, space, channel = parts(layer, images)
    size = layer["size"]
    windows = [size, size] if isinstance(size, int) else listed(size)  # a number in configs of Keras before 3.14
    if len(space) != len(windows):
        raise NoRule("takes patches of a single image")
    return joined(layer, batch, slid(layer, space, windows=windows), merge([*windows, channel]))


@rule("ops.RGBToGrayscale")
def grayscale(layer: Layer, images: Tensor) -> Tensor:
    batch, space, channel = parts(layer, images)
    layer.pin(channel, "weighs red, green and blue")
    return joined(layer, batch, space, 1)


@rule("ops.RGBToHSV", "ops.HSVToRGB")
def colours(layer: Layer, images: Tensor) -> Tensor:
    layer.pin(parts(layer, images)[2], "mixes colours")
    return images
