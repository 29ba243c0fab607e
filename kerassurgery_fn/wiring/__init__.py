"""A model's config as calls between tensors, free of what Keras derives from them: call numbers, order and shapes.

`unfold` reads the config of one Functional or Sequential model, `fold` writes one again exactly as Keras would. In
between, functions like `redirected` join tensors anew.
"""

from kerassurgery_fn.wiring.nets import (
    AUTOMATIC,
    Arguments,
    Net,
    Node,
    Port,
    Shape,
    Spec,
    Unfound,
    Use,
    moved,
    own_record,
    redirected,
    renamed,
    reread,
    shortened,
    unfold,
    unused,
    with_call,
    with_layer,
)
from kerassurgery_fn.wiring.rewiring import Rewiring, rewire
from kerassurgery_fn.wiring.writing import arranged, fold, in_order, is_chain, readers

__all__ = [
    "AUTOMATIC", "Arguments", "Net", "Node", "Port", "Rewiring", "Shape", "Spec", "Unfound", "Use", "arranged", "fold",
    "in_order", "is_chain", "moved", "own_record", "readers", "redirected", "renamed", "reread", "rewire", "shortened",
    "unfold", "unused", "with_call", "with_layer",
]  # fmt: skip
