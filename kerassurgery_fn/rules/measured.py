"""Rules of layers whose code was run to find out what they do to channels. The result is in the layer's record.

    "measured": {"as": "MultiHeadAttention"}              computes the same as its parent class
    "measured": {"as": "measured>EachChannelAlone", ...}  computes each output channel from one input channel
    "measured": {"as": "measured>ChannelsAlike", ...}     mixes its channels, and treats them alike
    "measured": {"elementwise": ["mine>gelu"]}            an activation function of the config is elementwise

`as` is the key of the rule, see `registry.key_of`. A rule that is registered for the class itself comes first.
"""

from __future__ import annotations

from typing import Any

from kerassurgery_fn.graph import MEASURED
from kerassurgery_fn.rules.layer import Layer, NoRule, Tensor
from kerassurgery_fn.rules.registry import rule

EACH_CHANNEL, CHANNELS_ALIKE = "measured>EachChannelAlone", "measured>ChannelsAlike"
EXPERIMENTS = {
    EACH_CHANNEL: "was measured to compute each channel separately",
    CHANNELS_ALIKE: "was measured to mix its channels and to treat them alike",
}


@rule(EACH_CHANNEL, arguments=None, equal_channels=True)
def each_channel(layer: Layer, x: Tensor, *_: Any, **__: Any) -> Tensor:
    measured = layer.record[MEASURED]
    if len(x) != measured["rank"]:
        raise NoRule(f"was measured on tensors with {measured['rank']} axes, and is called on one with {len(x)}")
    return pass_channels(layer, x, measured)


@rule(CHANNELS_ALIKE, arguments=None, approximate="over channels")
def channels_alike(layer: Layer, x: Tensor, *_: Any, **__: Any) -> Tensor:
    layer.inexact(x[-1], "mixes its channels, and treats them alike, as was measured")
    return each_channel(layer, x)


def pass_channels(layer: Layer, x: Tensor, measured: Any) -> Tensor:
    """The rule of a layer that computes each channel separately: channels pass through, other axes are pinned.

    Args:
        measured: `weights` has the name and the shape of each weight, with None for axes that have the size of the
            channel axis, and `output_rank` the number of axes of the output.
    """
    layer.pin(x[:-1], "was measured on its last axis only")
    for name, shape in measured["weights"]:
        layer.weight(name, tuple(x[-1] if size is None else size for size in shape), summed=())
    return (x[0], *(None for _ in range(measured["output_rank"] - 2)), x[-1])


def measured_words(measured: Any) -> str:
    """What was measured, as the end of a sentence.

    >>> measured_words({"as": "MultiHeadAttention"}), measured_words({"elementwise": ["mine>bend"]})
    ('was measured to compute what MultiHeadAttention computes', 'applies mine>bend, measured to be elementwise')
    """
    if "as" in measured:
        return EXPERIMENTS.get(measured["as"], f"was measured to compute what {measured['as']} computes")
    return f"applies {', '.join(measured['elementwise'])}, measured to be elementwise"
