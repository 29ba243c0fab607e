"""The precision of layers: the dtypes in which they compute and store their weights."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import reduce
from typing import Any

import ml_dtypes
import numpy as np

from kerassurgery_fn.analysis.channel_flow import analyse
from kerassurgery_fn.edits.base import edit
from kerassurgery_fn.edits.steps.changed_records import with_records
from kerassurgery_fn.edits.steps.draft import Draft, parted
from kerassurgery_fn.edits.steps.draft_writing import GraphEdit
from kerassurgery_fn.errors import BadValue
from kerassurgery_fn.graph import Record, Selector, as_selector, is_input, is_model, model_in
from kerassurgery_fn.rules.dtypes import is_float, policy_name, variable_dtype
from kerassurgery_fn.rules.layer import ADAPTERS
from kerassurgery_fn.rules.registry import is_operation, rule_for
from kerassurgery_fn.values.frozen import freeze, set_in
from kerassurgery_fn.values.mapped_arrays import elementwise

POLICIES = ("float16", "bfloat16", "float32", "float64", "mixed_float16", "mixed_bfloat16")


@edit
@dataclass(frozen=True)
class ConvertDtype(GraphEdit):
    """Converts layers to another precision, including the layers inside wrappers and nested models.

    The dtypes of the model's inputs stay. The optimizer's state of weights whose dtype changes is dropped.

    Args:
        dtype: a dtype or policy, or its name: `float16`, `bfloat16`, `float32`, `float64`, `mixed_float16`,
            `mixed_bfloat16`. A mixed policy computes in the dtype and keeps the weights in float32.
        layer: the layers, see `graph.selectors`; all by default.

    Raises (when called on a snapshot):
        UnknownLayer, AmbiguousLayer: no layer has this name, or several layers have it.
        BadValue: a layer is quantized, or a layer without a rule has LoRA weights, which stay in float32.

    >>> ConvertDtype("mixed_float16", "backbone/*")
    ConvertDtype(dtype='mixed_float16', layer='backbone/*')
    """

    dtype: str
    layer: Selector = "*"

    def __post_init__(self) -> None:
        object.__setattr__(self, "layer", as_selector(self.layer))
        name = getattr(self.dtype, "name", getattr(self.dtype, "__name__", self.dtype))
        if not isinstance(name, str) or name not in POLICIES:
            raise BadValue(f"layers cannot be converted to {self.dtype!r}; the dtypes are {', '.join(POLICIES)}")
        object.__setattr__(self, "dtype", name)

    def redraw(self, draft: Draft) -> Draft:
        records: dict[str, Record] = {}
        weights: dict[str, tuple[np.ndarray, ...]] = {}
        for path in draft.within(self.layer):
            if not has_policy(draft.record(path)):
                continue
            scope, key = parted(path)
            records[path] = with_policy(path, draft.graph(scope).layers[key], self.dtype)
            arrays, adapters = draft.weights.get(path, ()), adapters_of(draft, path)
            cast = tuple(
                array if index in adapters else as_dtype(array, variable_dtype(self.dtype))
                for index, array in enumerate(arrays)
            )
            if any(new is not old for new, old in zip(cast, arrays, strict=True)):
                weights[path] = cast
        draft = with_records(draft, records).with_arrays(weights)
        draft = replace(draft, restarted=draft.restarted | weights.keys())
        models = [path for path in draft.within(self.layer) if model_in(draft.record(path))]
        return reduce(self.with_model, models if self.layer != "*" else [*models, ""], draft)

    def with_model(self, draft: Draft, scope: str) -> Draft:
        """The draft with the policy in the config of a model. Sequential models have one: they cast their inputs."""
        graph = draft.graph(scope)
        if (policy := graph.record["config"].get("dtype")) is None:
            return draft
        record = set_in(graph.record, ("config", "dtype"), freeze(policy_record(scope, policy, self.dtype)))
        return draft.with_graph(scope, replace(graph, record=record))


def adapters_of(draft: Draft, path: str) -> set[int]:
    """The indices of the LoRA weights of a layer. Keras keeps these weights in float32 under every policy.

    Raises:
        BadValue: the layer has LoRA weights, but no rule that tells which of its weights they are.
    """
    if not has_adapters(draft.record(path)):
        return set()
    flow = analyse(draft.snapshot)
    if path in flow.opaque:
        raise BadValue(
            f"layer {path!r} has LoRA weights, which stay in float32, and it {flow.opaque[path]}, so the LoRA weights "
            "are not known; convert the model before enable_lora()"
        )
    return {index for index, weight in enumerate(flow.weights.get(path, ())) if weight.name in ADAPTERS}


def has_adapters(tree: Any) -> bool:
    """Whether a layer, or a layer in its config, has LoRA weights.

    >>> has_adapters({"config": {"layer": {"config": {"lora_rank": 4}}}}), has_adapters({"config": {"units": 4}})
    (True, False)
    """
    if isinstance(tree, dict):
        return bool(tree.get("lora_rank")) or any(map(has_adapters, tree.values()))
    return isinstance(tree, list) and any(map(has_adapters, tree))


def has_policy(record: Record) -> bool:
    """Whether a layer has a dtype policy of its own: inputs, operations and models have none."""
    return not (is_input(record) or is_model(record) or is_operation(record))


def with_policy(path: str, record: Any, dtype: str) -> Any:
    """The record of a layer with another policy, also in the layers in its config. Policies of integers stay.

    Raises:
        BadValue: a layer is quantized.
    """
    if isinstance(record, list):
        return [with_policy(path, item, dtype) for item in record]
    if not isinstance(record, dict) or not isinstance(record.get("config"), dict):
        return record
    config = {key: with_policy(path, value, dtype) for key, value in record["config"].items() if key != "dtype"}
    policy = record["config"].get("dtype")
    if policy is not None:
        # Some classes write a dtype where others write a policy. A record of theirs has a policy only if it is mixed.
        is_dtype = rule_for(record).states_dtype and is_float(policy_name(policy))
        config["dtype"] = policy_record(path, policy_name(policy) if is_dtype else policy, dtype)
    return {**record, "config": config}


def policy_record(path: str, policy: Any, dtype: str) -> Any:
    """The entry of a config for a policy, in place of the entry for another; unchanged if that is not one of floats.

    Raises:
        BadValue: the old policy is one of a quantized layer.
    """
    if "_from_" in policy_name(policy) or (isinstance(policy, dict) and "Quantized" in policy["class_name"]):
        raise BadValue(
            f"layer {path!r} is quantized, so it cannot be converted to {dtype}; convert the model before quantize()"
        )
    if not is_float(policy_name(policy)):
        return policy
    if isinstance(policy, str) and not dtype.startswith("mixed_"):
        return dtype
    return {"module": "keras", "class_name": "DTypePolicy", "config": {"name": dtype}, "registered_name": None}


def as_dtype(array: np.ndarray, dtype: str) -> np.ndarray:
    """An array of floats in another dtype; the same array if it has that dtype already, or if it has no floats.

    >>> as_dtype(np.zeros(2), "float16").dtype, as_dtype(np.arange(2), "float16").dtype
    (dtype('float16'), dtype('int64'))
    """
    wanted = np.dtype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)
    if not is_float(array.dtype.name) or array.dtype == wanted:
        return array
    return elementwise(array, lambda part: part.astype(wanted))
