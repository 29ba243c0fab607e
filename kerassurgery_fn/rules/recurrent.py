"""Recurrent layers."""

from __future__ import annotations

from typing import Any

from kerassurgery_fn.channels import Axis, tile
from kerassurgery_fn.rules.activations import activated
from kerassurgery_fn.rules.layer import Layer, Tensor
from kerassurgery_fn.rules.registry import rule


@rule("LSTM")
def lstm(layer: Layer, x: Tensor, initial_state: Any = None, **_: Any) -> Any:
    o = layer.fresh("units")
    layer.weights(kernel="ig", recurrent_kernel="og", bias="g", i=x[-1], o=o, g=tile(o, 4))
    return run(layer, x, [o, o], initial_state)


@rule("GRU")
def gru(layer: Layer, x: Tensor, initial_state: Any = None, **_: Any) -> Any:
    o = layer.fresh("units")
    bias = "2g" if layer["reset_after"] else "g"
    layer.weights(kernel="ig", recurrent_kernel="og", bias=bias, i=x[-1], o=o, g=tile(o, 3))
    return run(layer, x, [o], initial_state)


@rule("SimpleRNN")
def simple_rnn(layer: Layer, x: Tensor, initial_state: Any = None, **_: Any) -> Any:
    o = layer.fresh("units")
    layer.weights(kernel="io", recurrent_kernel="oo", bias="o", i=x[-1], o=o)
    return run(layer, x, [o], initial_state)


def run(layer: Layer, x: Tensor, states: list[Axis], initial: Any) -> Any:
    """What a recurrent layer makes of a sequence: its last output or all of them, and its states if asked for."""
    batch, time, _ = x
    for state, given in zip(states, [initial] if isinstance(initial, tuple) else initial or (), strict=False):
        layer.tie(state, given[-1])
    for field in ("activation", "recurrent_activation"):
        activated(layer, (batch, states[0]), field)
    output = (batch, time, states[0]) if layer["return_sequences"] else (batch, states[0])
    return [output, *((batch, state) for state in states)] if layer["return_state"] else output
