"""Layers with LoRA weights or quantized weights, which a file has in another form than `get_weights()`.

float, LoRA     get_weights(): kernel, bias, a, b           file: kernel + a @ b * alpha / rank, bias
int8 or int4    get_weights(): bias, kernel, scale, ...     file: kernel, bias, scale, ...
"""

from __future__ import annotations

import numpy as np

from kerassurgery_fn.archive.layer_groups import Arrays, LayerGroup
from kerassurgery_fn.errors import BadFile, HiddenState
from kerassurgery_fn.rules.config_values import quantized

MAX_RANK = 1 << 14  # a file may state any rank, and its zeros take memory


def to_saved(layer: LayerGroup, arrays: Arrays) -> Arrays:
    """The arrays of a layer as a file has them: LoRA weights are added to the kernel.

    Raises:
        HiddenState: the layer is quantized in a way that a file cannot be written of.
    """
    config, mode = layer.record["config"], _mode(layer)
    if mode:
        return _swapped(layer, arrays)
    if not (rank := config.get("lora_rank")):
        return arrays
    kernel, *others, a, b = arrays
    scale = (config.get("lora_alpha") or rank) / rank
    with np.errstate(all="ignore"):  # weights may be infinite or NaN
        merged = kernel + scale * np.matmul(a, b)
    return (merged.astype(kernel.dtype), *others)


def from_saved(layer: LayerGroup, arrays: Arrays) -> Arrays:
    """The arrays of a layer in the order of `get_weights()`. LoRA weights are zero, as Keras loads them.

    Raises:
        BadFile: the rank of the LoRA weights is not one.
        HiddenState: the layer is quantized in a way that only Keras can read.
    """
    rank = layer.record["config"].get("lora_rank")
    if _mode(layer):
        return _swapped(layer, arrays)
    if not rank or not arrays:
        return arrays
    *rows, columns = arrays[0].shape
    if type(rank) is not int or not 0 < rank <= MAX_RANK:
        raise BadFile(f"layer {layer.path!r} has the lora_rank {rank!r}, which is not a rank of LoRA weights")
    return (*arrays, np.zeros((*rows, rank), np.float32), np.zeros((rank, columns), np.float32))


def _mode(layer: LayerGroup) -> str:
    """The mode in which a layer is quantized; empty if it is not.

    Raises:
        HiddenState: the layer has both quantized and LoRA weights, or a mode whose order of weights is not known.
    """
    mode = quantized(layer.record["config"].get("dtype")).split("/")[0]  # int4/128 has groups of 128 rows
    if mode and (layer.record["config"].get("lora_rank") or mode not in ("int8", "int4")):
        raise HiddenState(
            f"layer {layer.path!r} ({layer.record['class_name']}) is quantized ({mode}"
            f"{' with LoRA weights' * bool(layer.record['config'].get('lora_rank'))}), and such files are read and "
            "written by Keras only; use keras.models.load_model and capture, or rebuild and save"
        )
    return mode


def _swapped(layer: LayerGroup, arrays: Arrays) -> Arrays:
    """The arrays of a quantized layer with bias and kernel in the other order."""
    if len(arrays) < 2 or not layer.record["config"].get("use_bias", layer.record["config"].get("bias_axes")):
        return arrays
    first, second, *rest = arrays
    return (second, first, *rest)
