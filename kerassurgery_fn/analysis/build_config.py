"""For what shapes layers are built, as their records state it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from kerassurgery_fn.channels import size
from kerassurgery_fn.graph import Record
from kerassurgery_fn.rules.findings import First
from kerassurgery_fn.rules.layer import Findings, Tensor, listed
from kerassurgery_fn.rules.registry import key_of
from kerassurgery_fn.values.frozen import Location, get_in, set_in

# Keras builds these as they are constructed, so that it never writes for what.
BUILT_AT_ONCE = re.compile(
    r"Activation|ActivityRegularization|AlphaDropout|(Spatial)?Dropout(\dD)?|ELU|Gaussian(Dropout|Noise)|Identity|"
    r"Global(Average|Max)Pooling\dD|(Average|Max)Pooling\dD|LeakyReLU|Masking|ReLU|Reshape|Softmax|UnitNormalization"
)
BUILT_BY_NAME = {"MultiHeadAttention": ("query", "value", "key"), "GroupQueryAttention": ("query", "value", "key")}


# Fields of the config that Keras works out as it builds a layer, given the config and the first tensor's axes.
WORKED_OUT: dict[str, Callable[[Mapping[str, Any], Tensor], dict[str, Any]]] = {
    "LayerNormalization": lambda config, _: {"axis": listed(config["axis"])},
    "RMSNormalization": lambda config, _: {"axis": listed(config["axis"])},
    "MultiHeadAttention": lambda config, x: {
        "attention_axes": listed(config["attention_axes"] or list(range(1, len(x) - 1)))
    },
}


def is_built(record: Record) -> bool:
    """Whether Keras writes for what shapes a layer was built.

    >>> [is_built({"module": "keras.layers", "class_name": name}) for name in ("Dense", "ReLU")]
    [True, False]
    """
    key = key_of(record)
    return not key.startswith("ops.") and not BUILT_AT_ONCE.fullmatch(key)


def unstated(record: Record, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[Location, Any]:
    """The shapes that the `build_config` of a layer is to state which has none yet, by their places in it."""
    if not is_built(record):
        return {}
    names = BUILT_BY_NAME.get(key_of(record))
    if names is None:
        return {("input_shape",): next(iter([*args, *kwargs.values()]), None)}
    named = {**dict(zip(names, args, strict=False)), **kwargs}
    return {("shapes_dict", f"{name}_shape"): named[name] for name in names if isinstance(named.get(name), tuple)}


def with_builds(record: Record, findings: Findings) -> Record:
    """A layer's record that states for what it, and the layers in it, are built, given what its rule has noted."""
    missing = {place: unstated(*call) for place, call in findings.first.items() if is_built_anew(call)}
    for place, shapes in [*((place[:-1], shapes) for place, shapes in findings.builds.items()), *missing.items()]:
        owner = get_in(record, place)
        config: dict[str, Any] = dict(owner.get("build_config") or {})
        for (first, *rest), axes in shapes.items():
            config[first] = {**config.get(first, {}), rest[0]: _sizes(axes)} if rest else _sizes(axes)
        if shapes:
            record = set_in(record, place, {**owner, "build_config": config})
    for place, (unbuilt, args, kwargs) in findings.first.items():
        if worked_out := WORKED_OUT.get(key_of(unbuilt)):  # of a layer that is built, too, whose config was set
            made = worked_out(unbuilt["config"], next(iter([*args, *kwargs.values()])))
            record = set_in(record, (*place, "config"), {**unbuilt["config"], **made})
    return record


def is_built_anew(call: First) -> bool:
    """Whether a layer is to be built for what it reads now: one that is not built, or a merge layer.

    A merge layer has no weights. When Keras builds it, it notes whether its tensors have the same number of axes, and
    aligns them by that note at every call.
    """
    record, args, kwargs = call
    return "build_config" not in record or isinstance(next(iter([*args, *kwargs.values()]), None), list)


def _sizes(axes: Any) -> Any:
    """Tensors, or lists of them, as lists of sizes."""
    if isinstance(axes, dict):
        return {key: _sizes(one) for key, one in axes.items()}
    if isinstance(axes, list):
        return [_sizes(one) for one in axes]
    return axes if axes is None else [size(axis) for axis in axes]
