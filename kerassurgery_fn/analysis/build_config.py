"""The shapes for which layers were built: the `build_config` in their records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from toolz import valmap

from kerassurgery_fn.channels import size
from kerassurgery_fn.graph import Record
from kerassurgery_fn.rules.findings import First
from kerassurgery_fn.rules.layer import Findings
from kerassurgery_fn.rules.registry import is_operation, rule_for
from kerassurgery_fn.values.frozen import Location, get_in, set_in


def is_built(record: Record) -> bool:
    """Whether Keras writes the shape for which a layer was built into its record.

    >>> [is_built({"module": "keras.layers", "class_name": name}) for name in ("Dense", "ReLU")]
    [True, False]
    """
    return not is_operation(record) and bool(rule_for(record).built)


def build_shapes(record: Record, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[Location, Any]:
    """The shapes in the `build_config` of a layer that is built by a call: place in it -> axes of the tensor."""
    if not is_built(record):
        return {}
    names = rule_for(record).built
    if not isinstance(names, tuple):
        return {("input_shape",): next(iter([*args, *kwargs.values()]), None)}
    named = {**dict(zip(names, args, strict=False)), **kwargs}
    return {("shapes_dict", f"{name}_shape"): named[name] for name in names if isinstance(named.get(name), tuple)}


def with_builds(record: Record, findings: Findings) -> Record:
    """A layer's record with the shapes for which the layer, and the layers in it, are built.

    Args:
        record: the record of the layer.
        findings: the findings of its rule.
    """
    missing = {place: build_shapes(*call) for place, call in findings.first.items() if is_built_anew(call)}
    for place, shapes in [*((place[:-1], shapes) for place, shapes in findings.builds.items()), *missing.items()]:
        owner = get_in(record, place)
        config: dict[str, Any] = dict(owner.get("build_config") or {})
        for (first, *rest), axes in shapes.items():
            config[first] = {**config.get(first, {}), rest[0]: _sizes(axes)} if rest else _sizes(axes)
        if shapes:
            record = set_in(record, place, {**owner, "build_config": config})
    # The fields that Keras derives are updated after a change of the config, also for a layer that is already built.
    for place, (unbuilt, args, kwargs) in findings.first.items():
        if derived_config := rule_for(unbuilt).derived_config:
            derived = derived_config(unbuilt["config"], next(iter([*args, *kwargs.values()])))
            record = set_in(record, (*place, "config"), {**unbuilt["config"], **derived})
    return record


def is_built_anew(call: First) -> bool:
    """Whether a layer is built by a call: a layer that is not built yet, or a merge layer.

    A merge layer has no weights, so it can be built again. When Keras builds it, the layer stores whether its tensors
    have the same number of axes, and it uses this at every call.
    """
    record, args, kwargs = call
    return "build_config" not in record or isinstance(next(iter([*args, *kwargs.values()]), None), list)


def _sizes(axes: Any) -> Any:
    """The sizes of the axes of a tensor, or of several tensors in lists and dicts."""
    if isinstance(axes, dict):
        return valmap(_sizes, axes)
    if isinstance(axes, list):
        return [_sizes(tensor) for tensor in axes]
    return axes if axes is None else [size(axis) for axis in axes]
