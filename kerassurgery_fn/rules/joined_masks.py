"""Checks the mask of a Concatenate layer that loses a branch.

Keras computes this mask from all branches: a step is valid if it is valid in any branch, and in a branch without a mask
all steps are valid.

    any(concatenate([logical_or(expand_dims(mask), zeros_like(a)), ones_like(b)]), axis=-1)

So a branch can only be removed if another branch has the same valid steps, or all steps. Otherwise the layers after it
would see fewer valid steps.
"""

from __future__ import annotations

from collections.abc import Set

from kerassurgery_fn.graph import Call, Ref, Trace, refs
from kerassurgery_fn.rules.registry import key_of

EVERY_STEP = "every step"


def spares_masks(trace: Trace, join: Call, missing: Set[Ref]) -> bool:
    """Whether the mask of a concatenation stays the same without some of its operands; True if the call computes no
    mask."""
    if key_of(join.record) != "ops.Concatenate":
        return True
    calls = {(call.path, call.node): call for call in trace.calls}
    parts = {ref: mask_of(calls, ref) for ref in refs(join.args)}
    kept = {part for ref, part in parts.items() if ref not in missing}
    lost = {part for ref, part in parts.items() if ref in missing} - {None}
    return EVERY_STEP in kept or lost <= kept


def mask_of(calls: dict[tuple[str, tuple[int, ...]], Call], ref: Ref) -> Ref | str | None:
    """The mask that a branch contributes to the joined mask; None for a tensor that is not such a mask."""
    call = calls.get((ref.path, ref.node))
    match key_of(call.record) if call else "":
        case "ops.OnesLike":
            return EVERY_STEP
        case "ops.LogicalOr" if (inner := calls.get(_first(call))) and key_of(inner.record) == "ops.ExpandDims":
            return refs(inner.args)[0]
    return None


def _first(call: Call | None) -> tuple[str, tuple[int, ...]]:
    ref = refs(call.args)[0] if call else Ref("", (), 0)
    return ref.path, ref.node
