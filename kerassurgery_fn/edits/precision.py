"""The precision in which layers compute and keep their weights."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import reduce
from typing import Any

import ml_dtypes
import numpy as np

from kerassurgery_fn.analysis.channel_flow import analyse
from kerassurgery_fn.edits.base import edit
from kerassurgery_fn.edits.steps.draft import Draft, parted
from kerassurgery_fn.edits.steps.draft_writing import Rewrite
from kerassurgery_fn.errors import BadValue
from kerassurgery_fn.graph import Record, Selector, as_selector, is_input, is_model, model_in, with_layer
from kerassurgery_fn.rules.dtypes import is_float, policy_name, variable_dtype
from kerassurgery_fn.rules.layer import ADAPTERS
from kerassurgery_fn.rules.registry import key_of
from kerassurgery_fn.values.frozen import freeze, set_in

# Classes whose config has a dtype where others have a policy: a snapshot has a policy there only if it is a mixed one.
BARE = {"SpatialDropout1D", "SpatialDropout2D", "SpatialDropout3D"}
POLICIES = ("float16", "bfloat16", "float32", "float64", "mixed_float16", "mixed_bfloat16")


@edit
@dataclass(frozen=True)
class ConvertDtype(Rewrite):
    """Layers that compute and keep their weights in another precision; those in wrappers and nested models with them.

    What the model is given stays of the dtype that it was. The optimizer's state of weights whose dtype changes goes.

    Args:
        dtype: a dtype, or a policy that computes in one and keeps weights in float32, or its name: `float16`,
            `bfloat16`, `float32`, `float64`, `mixed_float16`, `mixed_bfloat16`.
        layer: which layers, see `graph.selectors`; all by default.

    Raises (when called on a snapshot):
        UnknownLayer, AmbiguousLayer: no layer, or several where one is meant, of that name.
        BadValue: a layer is quantized, or one that no rule describes has LoRA weights, which stay in float32.

    >>> ConvertDtype("mixed_float16", "backbone/*")
    ConvertDtype(dtype='mixed_float16', layer='backbone/*')
    """

    dtype: str
    layer: Selector = "*"

    def __post_init__(self) -> None:
        object.__setattr__(self, "layer", as_selector(self.layer))
        name = getattr(self.dtype, "name", getattr(self.dtype, "__name__", self.dtype))
        if not isinstance(name, str) or name not in POLICIES:
            raise BadValue(f"{self.dtype!r} is no dtype to convert layers to; there are {', '.join(POLICIES)}")
        object.__setattr__(self, "dtype", name)

    def redraw(self, draft: Draft) -> Draft:
        for path in draft.within(self.layer):
            if not has_policy(draft.record(path)):
                continue
            scope, key = parted(path)
            graph = draft.graph(scope)
            draft = draft.with_graph(scope, with_layer(graph, key, with_policy(path, graph.layers[key], self.dtype)))
            arrays, adapters = draft.weights.get(path, ()), adapters_of(draft, path)
            cast = tuple(
                array if index in adapters else as_dtype(array, variable_dtype(self.dtype))
                for index, array in enumerate(arrays)
            )
            if any(new is not old for new, old in zip(cast, arrays, strict=True)):
                draft = replace(draft.with_arrays({path: cast}), restarted=draft.restarted | {path})
        models = [path for path in draft.within(self.layer) if model_in(draft.record(path))]
        return reduce(self.with_model, models if self.layer != "*" else [*models, ""], draft)

    def with_model(self, draft: Draft, scope: str) -> Draft:
        """The draft with the policy in a model's own config, as Sequential models have it: they cast what they read."""
        graph = draft.graph(scope)
        if (policy := graph.record["config"].get("dtype")) is None:
            return draft
        record = set_in(graph.record, ("config", "dtype"), freeze(policy_record(scope, policy, self.dtype)))
        return draft.with_graph(scope, replace(graph, record=record))


def adapters_of(draft: Draft, path: str) -> set[int]:
    """The indices of the LoRA weights of a layer, which Keras keeps in float32 under every policy.

    Raises:
        BadValue: no rule says which of its weights they are.
    """
    if not has_adapters(draft.record(path)):
        return set()
    flow = analyse(draft.snapshot)
    if path in flow.opaque:
        raise BadValue(
            f"layer {path!r} has LoRA weights, which stay in float32, and it {flow.opaque[path]}, so that they cannot "
            "be told from the others; convert the model before enable_lora()"
        )
    return {index for index, weight in enumerate(flow.weights.get(path, ())) if weight.name in ADAPTERS}


def has_adapters(tree: Any) -> bool:
    """Whether a record, or any in its config, is that of a layer with LoRA weights.

    >>> has_adapters({"config": {"layer": {"config": {"lora_rank": 4}}}}), has_adapters({"config": {"units": 4}})
    (True, False)
    """
    if isinstance(tree, dict):
        return bool(tree.get("lora_rank")) or any(map(has_adapters, tree.values()))
    return isinstance(tree, list) and any(map(has_adapters, tree))


def has_policy(record: Record) -> bool:
    """Whether a record is that of a layer that computes, and no input, operation or model."""
    return not (is_input(record) or is_model(record) or key_of(record).startswith("ops."))


def with_policy(path: str, record: Any, dtype: str) -> Any:
    """The record of a layer, and of those in its config, with a policy in place of each that is of floats.

    Raises:
        BadValue: a layer is quantized.
    """
    if isinstance(record, list):
        return [with_policy(path, one, dtype) for one in record]
    if not isinstance(record, dict) or not isinstance(record.get("config"), dict):
        return record
    config = {key: with_policy(path, value, dtype) for key, value in record["config"].items() if key != "dtype"}
    policy = record["config"].get("dtype")
    if policy is not None:
        bare = record["class_name"] in BARE and is_float(policy_name(policy))
        config["dtype"] = policy_record(path, policy_name(policy) if bare else policy, dtype)
    return {**record, "config": config}


def policy_record(path: str, policy: Any, dtype: str) -> Any:
    """What stands for a policy in a config in place of another; the same where that is not one of floats."""
    if "_from_" in policy_name(policy) or (isinstance(policy, dict) and "Quantized" in policy["class_name"]):
        raise BadValue(
            f"layer {path!r} is quantized, and cannot be converted to {dtype}; convert the model before that"
        )
    if not is_float(policy_name(policy)):
        return policy
    if isinstance(policy, str) and not dtype.startswith("mixed_"):
        return dtype
    return {"module": "keras", "class_name": "DTypePolicy", "config": {"name": dtype}, "registered_name": None}


def as_dtype(array: np.ndarray, dtype: str) -> np.ndarray:
    """An array of floats in another precision; the very array if it is of that already, or of no floats.

    >>> as_dtype(np.zeros(2), "float16").dtype, as_dtype(np.arange(2), "float16").dtype
    (dtype('float16'), dtype('int64'))
    """
    wanted = np.dtype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)
    return array.astype(wanted) if is_float(array.dtype.name) and array.dtype != wanted else array
