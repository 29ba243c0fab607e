"""What each layer and operation does to channels, one family a file.

To support a layer, write its rule in the file of its family: the layer's call on channel maps.
"""

from kerassurgery_fn.rules import (
    activations,
    applications,
    attention,
    convolution,
    core,
    elementwise,
    imaging,
    joining,
    legacy,
    merging,
    moving,
    normalization,
    picking,
    pins,
    pooling,
    preprocessing,
    products,
    recurrent,
    reductions,
    shaping,
    wrappers,
)
from kerassurgery_fn.rules.layer import Layer, NoRule
from kerassurgery_fn.rules.registry import RULES, Rule, key_of, rule, rule_for

FAMILIES = (
    core, convolution, attention, recurrent, wrappers, normalization, activations, pooling, merging, shaping,
    preprocessing, elementwise, moving, picking, joining, imaging, products, reductions,
    legacy, applications, pins,
)  # fmt: skip

__all__ = ["FAMILIES", "RULES", "Layer", "NoRule", "Rule", "key_of", "rule", "rule_for"]
