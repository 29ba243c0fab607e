"""The dtypes of tensors, see the field `dtype` of a record."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from kerassurgery_fn.graph import Record, Spec
from kerassurgery_fn.rules.registry import rule_for

# Value of the field `dtype` of a record -> the operands on which the dtype of the output depends.
OPERANDS = {"moved": slice(1), "promoted": slice(None), "selects": slice(1, None)}
NUMBER = "float"  # the dtype of a Python float, which is converted to the dtype of the tensors
MIXED = {"mixed_float16": "float16", "mixed_bfloat16": "bfloat16"}
WIDTHS = {"float16": 1, "bfloat16": 1, "float32": 2, "float64": 3}


def dtype_made(record: Record, reads: Sequence[Spec], stated: Spec | None) -> str | None:
    """The dtype of the output of a call.

    Args:
        record: the record of the layer.
        reads: the specs of the tensors that the call reads.
        stated: the spec of the output that the config stated before the edit; None if it stated none.

    >>> transpose = {"module": "keras.ops", "class_name": "Transpose", "config": {"axes": None}}
    >>> dtype_made(transpose, [Spec((None, 3), "int32")], Spec((3, None), "bool"))
    'int32'
    """
    before, read = stated and stated.dtype, [spec.dtype for spec in reads if spec.dtype]
    kind, policy = rule_for(record).dtype, record["config"].get("dtype")
    if read and not policy and kind in OPERANDS:
        operands = read[OPERANDS[kind]]
        return operands[0] if len(set(operands)) == 1 else promoted(filter(is_float, operands)) or before
    if kind == "input" and read:
        return read[0] if not any(map(is_float, read)) else compute_dtype(policy)
    if before and not is_float(before):
        return before
    return compute_dtype(policy) if policy else promoted(filter(is_float, read)) or before


def is_float(dtype: str) -> bool:
    """Whether a dtype is a float.

    >>> is_float("bfloat16"), is_float("int32")
    (True, False)
    """
    return "float" in dtype


def compute_dtype(policy: Any) -> str:
    """The dtype in which a layer with a policy computes; the policy is given by its name or record.

    >>> compute_dtype("mixed_float16"), compute_dtype({"class_name": "DTypePolicy", "config": {"name": "float32"}})
    ('float16', 'float32')
    """
    name = policy_name(policy)
    return MIXED.get(name, name)


def variable_dtype(policy: Any) -> str:
    """The dtype of the weights of a layer with a policy.

    >>> variable_dtype("mixed_float16"), variable_dtype("float16")
    ('float32', 'float16')
    """
    name = policy_name(policy)
    return "float32" if name in MIXED else name


def policy_name(policy: Any) -> str:
    """The name of a policy. For a quantized policy, it is the name of its source policy; for a map of policies, the
    name of the default policy."""
    while isinstance(policy, dict):
        config = policy.get("config")
        config = config if isinstance(config, dict) else {}
        policy = config.get("name") or config.get("source_name") or config.get("default_policy") or "float32"
    return str(policy)


def promoted(dtypes: Iterable[str]) -> str | None:
    """The dtype to which operands of several float dtypes are promoted; None if there are none.

    >>> promoted(["float16", "float32"]), promoted(["float16", "bfloat16"]), promoted([])
    ('float32', 'float32', None)
    """
    dtypes = set(dtypes)
    if ({"float16", "bfloat16"} <= dtypes and "float32" not in dtypes) or dtypes == {NUMBER}:
        return promoted({*dtypes, "float32"})
    return max(dtypes, key=lambda dtype: WIDTHS.get(dtype, 0), default=None)
