"""Layers that wrap other layers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from operator import itemgetter
from typing import Any

from kerassurgery_fn.channels import Axis, join
from kerassurgery_fn.graph import is_model
from kerassurgery_fn.rules.activations import applied_last
from kerassurgery_fn.rules.layer import Layer, Tensor
from kerassurgery_fn.rules.macs import macs_both_ways, macs_step_by_step, normalised_macs
from kerassurgery_fn.rules.mask_rules import masks_both_ways, passed
from kerassurgery_fn.rules.merging import broadcast
from kerassurgery_fn.rules.recurrent import given_states
from kerassurgery_fn.rules.registry import rank_of, rule
from kerassurgery_fn.rules.size_checks import check_step_mask
from kerassurgery_fn.rules.weight_groups import in_both_directions, in_wrapped_layer, with_spectral_norm


@rule(
    "TimeDistributed", last=itemgetter("layer"), equal_channels=True, macs=macs_step_by_step, masks=passed,
    keywords=("mask",), added={"mask": None}, least_rank=3, sublayers=in_wrapped_layer,
)  # fmt: skip
def time_distributed(layer: Layer, inputs: Tensor, *_: Any, **__: Any) -> Tensor:
    inner, step = layer.inner("layer"), (inputs[0], *inputs[2:])
    batch, *rest = layer.findings.enter(inner.where, inner.node, step) if is_model(inner.record) else inner(step)
    return (batch, inputs[1], *rest)


def last_of_both(config: Mapping[str, Any]) -> str | None:
    """The activation that both directions apply last; "merged activations" if the layer combines their outputs."""
    names = {applied_last(config.get(field, config["layer"])) for field in ("layer", "backward_layer")}
    merged = config["merge_mode"] not in ("concat", None)
    if None in names or (len(names) == 1 and not merged) or (names == {"linear"} and config["merge_mode"] != "mul"):
        return None if None in names else names.pop()
    return "merged activations"


@rule(
    "Bidirectional", last=last_of_both, equal_channels=True, macs=macs_both_ways, masks=masks_both_ways,
    arguments=("sequences", "initial_state", "mask"), added={"mask": None},
    rank=lambda config: rank_of(config["layer"]), requires=(check_step_mask,), sublayers=in_both_directions,
)  # fmt: skip
def bidirectional(layer: Layer, sequences: Tensor, initial_state: Any = None, *_: Any, **__: Any) -> Any:
    initial = given_states(initial_state)
    halves = [initial[: len(initial) // 2], initial[len(initial) // 2 :]]
    forward, backward = (
        layer.inner(field, part)(sequences, initial_state=half or None)
        for field, part, half in zip(("layer", "backward_layer"), ("forward", "backward"), halves, strict=True)
    )
    states = []
    if isinstance(forward, list):
        (forward, *ahead), (backward, *behind) = forward, backward
        states = [*ahead, *behind]
    for a, b in zip(forward, backward, strict=True):
        layer.tie(a, b) if a is not None else None
    outputs = merged(layer, forward, backward)
    return [*outputs, *states] if states else outputs if len(outputs) > 1 else outputs[0]


def merged(layer: Layer, forward: Tensor, backward: Tensor) -> list[Tensor]:
    """The outputs of both directions in the layer's merge mode. Keras requires outputs of the same size."""
    match layer["merge_mode"]:
        case "concat":
            return [(*forward[:-1], join([forward[-1], backward[-1]]))]
        case None:
            return [forward, backward]
        case _:
            return [broadcast(layer, [forward, backward])]


@rule(
    "SpectralNormalization", last=itemgetter("layer"), macs=normalised_macs, added={"training": False},
    sublayers=with_spectral_norm,
)  # fmt: skip
def spectral_normalization(layer: Layer, inputs: Tensor, *_: Any, **__: Any) -> Tensor:
    return layer.inner("layer", kind=Normalised)(inputs)


class Normalised(Layer):
    """A layer inside SpectralNormalization, which adds a vector after the first weight."""

    def weight(self, name: str, axes: Tensor, root: Axis = None, summed: Iterable[int] | None = None) -> None:
        super().weight(name, axes, root, summed)
        if not self.started:
            self.started = True
            super().weight("vector_u", (1, axes[-1]))

    started = False


@rule("Pipeline", last=lambda config: config["layers"][-1], keywords=("mask",))
def pipeline(layer: Layer, inputs: Any, **_: Any) -> Any:
    for index in range(len(layer["layers"])):
        inputs = layer.inner(("layers", index), f"layers.{index}")(inputs)
    return inputs
