"""What each layer and operation does to channels, one family a file.

To support a layer, write its rule in the file of its family: the layer's call on channel maps.
"""

from kerassurgery_fn.rules import (
    activations,
    convolution,
    core,
    merging,
    normalization,
    pooling,
    recurrent,
    shaping,
)
from kerassurgery_fn.rules.layer import Layer, NoRule
from kerassurgery_fn.rules.registry import RULES, key_of, rule

__all__ = [
    "RULES", "Layer", "NoRule", "activations", "convolution", "core", "key_of", "merging", "normalization", "pooling",
    "recurrent", "rule", "shaping",
]  # fmt: skip
