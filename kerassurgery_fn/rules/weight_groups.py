"""The places in a weight file of the weights of a layer that consists of other layers.

A weight file has one group for each layer, and in it a group for each sublayer, named by the attribute that holds it:

    lstm/cell/vars/0                            an LSTM keeps all its weights in its cell
    bidirectional/forward_layer/cell/vars/0     a sublayer may have sublayers
    spectral_normalization/vars/0               the kernel of the wrapped layer: `layer/vars/0` is the same weight

The groups are listed here in the order of `get_weights()`: the order in which Keras creates the sublayers.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from kerassurgery_fn.graph import Record
from kerassurgery_fn.rules.registry import rule_for

Config = Mapping[str, Any]


@dataclass(frozen=True)
class Sublayer:
    """A group of weights below the group of a layer.

    - `group`: the name of the group, an attribute of the layer;
    - `record`: the record of the sublayer;
    - `count`: the number of its weights; None if the sublayers without a count have equally many;
    - `shared`: how many of its first weights are weights of the layer itself, too.
    """

    group: str
    record: Record
    count: int | None = None
    shared: int = 0


@dataclass(frozen=True)
class WeightGroups:
    """The weights of a layer: first `count` weights of its own (None if all weights are its own), then those of
    `sublayers`."""

    count: int | None
    sublayers: tuple[Sublayer, ...] = ()


def weight_groups(record: Record) -> WeightGroups:
    """The groups of a layer's weights. A class without `sublayers` in its rule has all its weights itself.

    >>> weight_groups({"module": "keras.layers", "class_name": "LSTM", "config": {}}).sublayers[0].group
    'cell'
    """
    groups, config = rule_for(record).sublayers, record["config"]
    activation = config.get("activation")
    if groups is None and isinstance(activation, dict) and activation["class_name"] != "function":
        return with_activation(record)
    return groups(config) if callable(groups) else WeightGroups(None)


def weight_count(record: Record) -> int | None:
    """The number of weights of a layer with its sublayers; None if its rule does not state it.

    >>> weight_count({"module": "keras.layers", "class_name": "GRUCell", "config": {"use_bias": False}})
    2
    """
    groups = weight_groups(record)
    parts = (weight_count(part.record) if part.count is None else part.count for part in groups.sublayers)
    counts = [groups.count, *parts]
    return None if None in counts else sum(count for count in counts if count is not None)


def with_activation(record: Record) -> WeightGroups:
    """The groups of a layer whose activation is a layer, such as PReLU, which has a weight."""
    config = record["config"]
    kernels = 1 if (last_kernel := rule_for(record).folds) is None else last_kernel.slot + 1
    count = kernels + bool(config.get("use_bias", config.get("bias_axes")))
    return WeightGroups(count, (Sublayer("activation", config["activation"]),))


# --- the field `sublayers` of a rule


def recurrent_weights(config: Config) -> WeightGroups:
    """The weights of a recurrent cell: kernel, recurrent kernel and bias."""
    return WeightGroups(2 + bool(config.get("use_bias", True)))


def in_own_cell(config: Config) -> WeightGroups:
    """The weights of a layer such as LSTM, which are those of a cell that is not in the config."""
    cell = {"module": "keras.layers", "class_name": "cell", "config": {}}
    return WeightGroups(0, (Sublayer("cell", cell, recurrent_weights(config).count),))


def in_cell(config: Config) -> WeightGroups:
    return WeightGroups(0, (Sublayer("cell", config["cell"]),))


def in_cells(config: Config) -> WeightGroups:
    names = unique_names(cell["class_name"] for cell in config["cells"])
    cells = zip(names, config["cells"], strict=True)
    return WeightGroups(0, tuple(Sublayer(f"cells/{name}", cell, weight_count(cell)) for name, cell in cells))


def in_both_directions(config: Config) -> WeightGroups:
    forward = config["layer"]
    backward = config.get("backward_layer") or forward
    counts = weight_count(forward), weight_count(backward)
    if None in counts:
        counts = None, None
    groups = zip(("forward_layer", "backward_layer"), (forward, backward), counts, strict=True)
    return WeightGroups(0, tuple(Sublayer(*group) for group in groups))


def in_wrapped_layer(config: Config) -> WeightGroups:
    return WeightGroups(0, (Sublayer("layer", config["layer"]),))


def with_spectral_norm(config: Config) -> WeightGroups:
    """The kernel of the wrapped layer and the vector that normalises it; then the other weights of the layer."""
    return WeightGroups(2, (Sublayer("layer", config["layer"], shared=1),))


def in_projections(*names: str) -> Callable[[Config], WeightGroups]:
    """The groups of an attention layer: projections with equally many weights. The gate comes before the projection of
    the values."""

    def groups(config: Config) -> WeightGroups:
        query, key, value, output = names
        gates = ["_gate_dense"] if config.get("use_gate") else []
        dense = {"module": "keras.layers", "class_name": "EinsumDense", "config": {}}
        return WeightGroups(0, tuple(Sublayer(name, dense) for name in (query, key, *gates, value, output)))

    return groups


# A config has the exported name of a class, and a group has the name in Keras' code. They differ for these classes.
PYTHON_NAMES = {"GroupQueryAttention": "GroupedQueryAttention"}


def unique_names(class_names: Iterable[str]) -> list[str]:
    """The names of the groups of several layers: their classes in snake case, numbered in order of appearance.

    >>> unique_names(["Conv2D", "LSTMCell", "Conv2D"])
    ['conv2d', 'lstm_cell', 'conv2d_1']
    """
    counts: dict[str, int] = {}
    names = []
    for name in (snake_case(PYTHON_NAMES.get(name, name)) for name in class_names):
        counts[name] = counts.get(name, -1) + 1
        names.append(f"{name}_{counts[name]}" if counts[name] else name)
    return names


def snake_case(class_name: str) -> str:
    """The name of a class in snake case, as Keras writes it.

    >>> [snake_case(name) for name in ("Conv2DTranspose", "GRUCell", "PReLU", "MyLayer2")]
    ['conv2d_transpose', 'gru_cell', 'p_re_lu', 'my_layer2']
    """
    name = re.sub(r"\W+", "", class_name)
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()
