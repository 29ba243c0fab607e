"""Preprocessing layers: layers that change images in each channel, and layers that encode their inputs."""

from __future__ import annotations

from typing import Any

from kerassurgery_fn.channels import Axis, join, size
from kerassurgery_fn.rules.counts import Size
from kerassurgery_fn.rules.data_formats import joined, parts, plain
from kerassurgery_fn.rules.layer import Layer, NoRule, Tensor
from kerassurgery_fn.rules.registry import pins, rule
from kerassurgery_fn.rules.rule_fields import Config, Vocabulary

# Keras calls these layers with training=True in a Functional model, too.
PREPARING: dict[str, Any] = {"keywords": ("data",), "added": {"training": True}}

pins(
    "mixes the colours of images",
    "RandomColorDegeneration", "RandomColorJitter", "RandomGrayscale", "RandomHue", "RandomSaturation", "RandAugment",
    "AugMix", **PREPARING,
)  # fmt: skip
CODES = "combines all its inputs into integer codes"
pins(CODES, "HashedCrossing", takes="list", keywords=("mask",))
pins(CODES, "TextVectorization", vocabulary=Vocabulary(pads_with="", inner="_lookup_layer"))
pins("transforms signals with fixed filters", "MelSpectrogram", "STFTSpectrogram")


@rule("Solarization", "RandomBrightness", "RandomInvert", "RandomPosterization", **PREPARING)
@rule("CutMix", "MixUp", **PREPARING)
@rule("MaxNumBoundingBoxes", keywords=("data",))
def each_pixel_alone(layer: Layer, data: Any, *_: Any, **__: Any) -> Tensor:
    return image(data)


@rule("AutoContrast", approximate="over rows or columns of images that are channels", **PREPARING)
def stretched(layer: Layer, data: Any, *_: Any, **__: Any) -> Tensor:
    for axis in image(data)[1:3]:
        layer.inexact(axis, "computes minimum and maximum over it")
    return image(data)


@rule("RandomFlip", "RandomRotation", "RandomZoom", "RandomTranslation", "RandomShear", **PREPARING)
@rule("RandomPerspective", **PREPARING)
@rule("RandomElasticTransform", "RandomContrast", "RandomSharpness", "RandomGaussianBlur", **PREPARING)
@rule("Equalization", "ContrastLimitedAdaptiveHistogramEqualization", **PREPARING)
def each_channel_alone(layer: Layer, data: Any, *_: Any, **__: Any) -> Tensor:
    plain(layer, parts(layer, image(data))[1], "mixes pixels")
    return image(data)


@rule("RandomErasing", **PREPARING)
def erased(layer: Layer, data: Any, *_: Any, **__: Any) -> Tensor:
    if isinstance(layer["fill_value"], list):
        layer.pin(parts(layer, image(data))[2], "fills it with a colour")
    return each_channel_alone(layer, data)


def fields_for_size(config: Config, axis: int, size: int | None, new_size: int) -> dict[str, Any]:
    """The config field of a Resizing to another height or width; empty for other axes."""
    first = 2 if config.get("data_format") == "channels_first" else 1
    field = {first: "height", first + 1: "width"}.get(axis)
    return {field: new_size} if field else {}


@rule("CenterCrop", "RandomCrop", **PREPARING)
@rule("Resizing", equal_channels=True, makes_positions=fields_for_size, **PREPARING)
def resized(layer: Layer, data: Any, *_: Any, **__: Any) -> Tensor:
    batch, space, channel = parts(layer, image(data))
    plain(layer, space, "crops or resizes")
    return joined(layer, batch, [layer["height"], layer["width"]], channel)


def image(images: Any) -> Tensor:
    if not isinstance(images, tuple):
        raise NoRule("transforms images together with their labels or boxes")
    if len(images) != 4:
        raise NoRule("transforms something that is not a batch of images")
    return images


@rule("Discretization", "Hashing")
def encoded(layer: Layer, inputs: Tensor, **_: Any) -> Tensor:
    if layer["output_mode"] != "int":
        raise NoRule(f"has the output mode {layer['output_mode']!r}, and only 'int' has a rule")
    return inputs


LOOKUP: dict[str, Any] = {"rows": "vocabulary", "values": "made"}


@rule("IntegerLookup", vocabulary=Vocabulary(of_integers=True), **LOOKUP)
@rule("StringLookup", vocabulary=Vocabulary(), **LOOKUP)
def looked_up(layer: Layer, inputs: Tensor, **_: Any) -> Tensor:
    if isinstance(words := layer["vocabulary"], list):
        special = layer["num_oov_indices"] + (layer["mask_token"] is not None and layer["output_mode"] == "int")
        numbers = numbers_of(layer, len(words), special)
        layer.states("vocabulary_size", Size(numbers))
    return encoded(layer, inputs)


def numbers_of(layer: Layer, words: int, special: int) -> Axis:
    """The integers that a lookup layer creates: those of special words, and those of the words in its config. The words
    in the config have ids if an edit names them."""
    key = layer.path, "vocabulary"
    if key not in layer.findings.opened:
        return special + words
    known = layer.made("vocabulary", lambda: layer.findings.constraints.fresh(words))
    layer.constant(("vocabulary",), (known,))
    layer.findings.constraints.pin(known, layer.reason("knows these words, and would lose them"), input=True)
    return layer.findings.numbered.setdefault(key, join([special, known]))


@rule("CategoryEncoding", keywords=("count_weights",), rows="num_tokens")
def category_encoding(layer: Layer, inputs: Tensor, count_weights: Any = None) -> Tensor:
    tokens = layer.rows("num_tokens")
    if layer["output_mode"] == "one_hot" and (len(inputs) == 1 or size(inputs[-1]) != 1):
        return (*inputs, tokens)
    layer.pin([inputs[-1], count_weights or ()], "counts the values along it")
    return (*inputs[:-1], tokens)
