"""The facts that a config repeats, worked out anew after its calls were joined otherwise: the shape and dtype of every
tensor, and what each layer was built for."""

from kerassurgery_fn.facts.calls import exchanged_kwargs, usual_kwargs
from kerassurgery_fn.facts.dtypes import is_float, policy_name, variable_dtype
from kerassurgery_fn.facts.foreign_masks import refuse_left_masks
from kerassurgery_fn.facts.masks import automatic_kwargs, with_masks, without_masks
from kerassurgery_fn.facts.walking import Facts, settled

__all__ = [
    "Facts", "automatic_kwargs", "exchanged_kwargs", "is_float", "policy_name", "refuse_left_masks", "settled",
    "usual_kwargs", "variable_dtype", "with_masks", "without_masks",
]  # fmt: skip
