"""`probe_rule`: finds the rule of an unknown layer by experiments on copies of it.

The experiment is described in `keras_io/channel_experiments.py`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import keras
import numpy as np

from kerassurgery_fn.arguments import as_live_layer, as_shape, optional, takes
from kerassurgery_fn.edits.steps.indices import as_seed
from kerassurgery_fn.keras_io.channel_experiments import Independent, Shape, measure_independence
from kerassurgery_fn.rules import RULES, Layer, NoRule, key_of, rule_for
from kerassurgery_fn.rules.layer import Tensor
from kerassurgery_fn.rules.measured import pass_channels

IRRELEVANT = ("name", "trainable", "dtype")  # config fields that do not affect channels


class Finding(NamedTuple):
    """A successful experiment, and the config of the layer."""

    config: str
    independent: Independent


@takes(layer=as_live_layer, shape=optional(as_shape), seed=as_seed)
def probe_rule(layer: keras.layers.Layer, shape: Shape | None = None, *, seed: int = 0) -> Callable[..., Any]:
    """Finds out by experiments whether a layer computes each channel separately, and registers the rule if it does.

    Channels are on the last axis. A copy of the layer for 7 channels gets random weights and runs on random inputs.
    Smaller copies, for some of the 7 channels and with their weights, must give the same output for these channels.

    The rule passes channels through layers of this class and this config, and pins all other axes. Layers of the class
    with another config keep the rule that they had.

    This is a measurement, not a proof: on other inputs, or in training, the layer may behave differently.

    Args:
        layer: a layer with one input and one output tensor; it is not changed.
        shape: the shape of the input, batch axis first; by default the shape for which the layer was called or built.
        seed: seed of weights and inputs.

    Raises:
        NotIndependent: the layer mixes channels, or cannot be run; the message says what was measured. No rule is
            registered.
        WrongShape: the layer has no input shape, and none is passed.
    """
    record = _record(layer)
    finding = Finding(_relevant(record["config"]), measure_independence(layer, shape, np.random.default_rng(seed)))
    known_rule = rule_for(record)
    previous = known_rule.channels
    # A class may be probed several times, with several configs: keep earlier findings, and the rule before all of them.
    findings = [*getattr(previous, "findings", []), finding]
    written_rule = getattr(previous, "written_rule", previous)

    def probed(layer: Layer, x: Tensor, *args: Any, **kwargs: Any) -> Any:
        config = _relevant(layer.config)
        measured = [finding.independent.as_data() for finding in findings if finding.config == config]
        matches = [data for data in measured if data["rank"] == len(x)]
        if matches:
            return pass_channels(layer, x, matches[-1])
        return (written_rule or _refuse_unprobed)(layer, x, *args, **kwargs)

    probed.findings, probed.written_rule = findings, written_rule  # type: ignore[attr-defined]
    RULES[key_of(record)] = replace(known_rule, channels=probed)
    return probed


def _refuse_unprobed(layer: Layer, *_: Any, **__: Any) -> Any:
    key = key_of(layer.record)
    raise NoRule(
        rule_for(layer.record).pins or f"is of the class {key}, which was probed with another config or on other axes"
    )


def _record(layer: keras.layers.Layer) -> dict[str, Any]:
    return json.loads(json.dumps(keras.saving.serialize_keras_object(layer)))


def _relevant(config: Mapping[str, Any]) -> str:
    """The fields of a config that may affect channels, as text that can be compared."""
    return json.dumps({key: value for key, value in config.items() if key not in IRRELEVANT}, sort_keys=True)
