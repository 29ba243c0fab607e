"""What the library knows about layers and operations: one record for each class, one file for each family.

To support a layer, add its record to the file of its family (see `registry` and `rule_fields`) and one row to the test
of the family. No other part of the package names a class of Keras.
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
    measured,
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
from kerassurgery_fn.rules.registry import RULES, key_of, rule, rule_for
from kerassurgery_fn.rules.rule_fields import Rule

FAMILIES = (
    core, convolution, attention, recurrent, wrappers, normalization, activations, pooling, merging, shaping,
    preprocessing, elementwise, moving, picking, joining, imaging, products, reductions,
    legacy, applications, measured, pins,
)  # fmt: skip

__all__ = ["FAMILIES", "RULES", "Layer", "NoRule", "Rule", "key_of", "rule", "rule_for"]
