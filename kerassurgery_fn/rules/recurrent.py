"""Recurrent layers and their cells."""

from __future__ import annotations

from collections.abc import Callable
from operator import itemgetter
from typing import Any

from kerassurgery_fn.channels import Axis, tile
from kerassurgery_fn.graph import leaves
from kerassurgery_fn.rules.activations import activated
from kerassurgery_fn.rules.convolution import geometry, slid
from kerassurgery_fn.rules.data_formats import joined, parts, plain
from kerassurgery_fn.rules.layer import Layer, Tensor
from kerassurgery_fn.rules.macs import once_per_step, once_per_step_and_position
from kerassurgery_fn.rules.mask_rules import masks_of_sequences
from kerassurgery_fn.rules.registry import rule
from kerassurgery_fn.rules.size_checks import check_space, check_states, check_step_mask
from kerassurgery_fn.rules.weight_groups import in_cell, in_cells, in_own_cell, recurrent_weights

States = list[Axis]


def lstm(layer: Layer, i: Axis) -> States:
    o = layer.fresh("units")
    layer.weights(kernel="i>g", recurrent_kernel="o>g", bias="g", i=i, o=o, g=tile(o, 4))
    return [o, o]


def gru(layer: Layer, i: Axis) -> States:
    o = layer.fresh("units")
    bias = "2g" if layer["reset_after"] else "g"
    layer.weights(kernel="i>g", recurrent_kernel="o>g", bias=bias, i=i, o=o, g=tile(o, 3))
    return [o]


def simple_rnn(layer: Layer, i: Axis) -> States:
    o = layer.fresh("units")
    layer.weights(kernel="i>o", recurrent_kernel="o>o", bias="o", i=i, o=o)
    return [o]


# A call can have initial states, and a mask of the valid steps.
SEQUENCE: dict[str, Any] = {
    "macs": once_per_step,
    "masks": masks_of_sequences,
    "arguments": ("sequences", "initial_state", "mask"),
    "added": {"training": False, "mask": None},
    "requires": (check_step_mask,),
}
OF_VECTORS: dict[str, Any] = {
    **SEQUENCE,
    "equal_channels": True,
    "rank": 3,
    "requires": (check_states, check_step_mask),
}


def gates(_: Any) -> str:
    """The field `last` of layers with gates: they multiply their activations by gates at the end."""
    return "gates"


def register(name: str, states_of: Callable[[Layer, Axis], States], last: Callable[[Any], Any], states: int) -> None:
    """Registers a recurrent layer and its cell, which have the same weights.

    Args:
        name: the class of the layer; the class of the cell has this name followed by `Cell`.
        states_of: (layer, channels of the input) -> the channels of its states. It states the weights.
        last: see `Rule.last`.
        states: the number of states.
    """

    @rule(name, last=last, states=states, sublayers=in_own_cell, **OF_VECTORS)
    def recurrent(layer: Layer, sequences: Tensor, initial_state: Any = None, *_: Any, **__: Any) -> Any:
        return run(layer, sequences, gated(layer, states_of(layer, sequences[-1])), initial_state)

    @rule(f"{name}Cell", last=last, sublayers=recurrent_weights)
    def cell(layer: Layer, inputs: Tensor, *_: Any, **__: Any) -> list[Tensor]:
        return stepped_once(layer, inputs, states_of)


def stepped_once(layer: Layer, x: Tensor, states_of: Callable[[Layer, Axis], States]) -> list[Tensor]:
    """The output and the states of a cell after one step."""
    states = gated(layer, states_of(layer, x[-1]))
    return [(x[0], state) for state in [states[0], *states]]


register("LSTM", lstm, gates, states=2)
register("GRU", gru, gates, states=1)
register("SimpleRNN", simple_rnn, itemgetter("activation"), states=1)


@rule("SimpleRNNCell", last=itemgetter("activation"), sublayers=recurrent_weights)
def simple_cell(layer: Layer, sequence: Tensor, *_: Any, **__: Any) -> list[Tensor]:  # Keras calls one step so
    return stepped_once(layer, sequence, simple_rnn)


@rule("StackedRNNCells", last=lambda config: config["cells"][-1], sublayers=in_cells)
def stacked_cells(layer: Layer, inputs: Tensor, *_: Any, **__: Any) -> list[Tensor]:
    states: list[Tensor] = []
    for index in range(len(layer["cells"])):
        inputs, *cell_states = layer.inner(("cells", index), f"cells.{index}")(inputs)
        states += cell_states
    return [inputs, *states]


@rule("RNN", last=itemgetter("cell"), least_rank=3, sublayers=in_cell, **SEQUENCE)
def rnn(layer: Layer, sequences: Tensor, initial_state: Any = None, *_: Any, **__: Any) -> Any:
    output, *states = layer.inner("cell", "cell")((sequences[0], *sequences[2:]))
    return run(layer, sequences, [state[-1] for state in states], initial_state, output[-1])


OF_IMAGES: dict[str, Any] = {
    **SEQUENCE,
    "last": gates,
    "equal_channels": True,
    "macs": once_per_step_and_position,
    "states": 2,
    "requires": (check_step_mask, check_space),
    "sublayers": in_own_cell,
}


@rule("ConvLSTM1D", rank=4, **OF_IMAGES)
@rule("ConvLSTM2D", rank=5, **OF_IMAGES)
@rule("ConvLSTM3D", rank=6, **OF_IMAGES)
def conv_lstm(layer: Layer, sequences: Tensor, initial_state: Any = None, *_: Any, **__: Any) -> Any:
    o = layer.fresh("filters")
    batch, space, i = parts(layer, (sequences[0], *sequences[2:]))
    layer.weights(
        kernel="..i>g", recurrent_kernel="..o>g", bias="g", space=geometry(layer, len(space))[0], i=i, o=o, g=tile(o, 4)
    )
    gated(layer, [o])
    time = stepped(layer, sequences)
    state = joined(layer, batch, slid(layer, space), o)
    for given in given_states(initial_state):
        layer.tie(o, parts(layer, given)[2])
    output = (batch, time, *state[1:]) if layer["return_sequences"] else state
    return [output, state, state] if layer["return_state"] else output


def gated(layer: Layer, states: States) -> States:
    """The states after the layer's activations, some of which combine channels."""
    for field in ("activation", "recurrent_activation"):
        activated(layer, (None, states[0]), field)
    return states


def given_states(initial: Any) -> list[Tensor]:
    return [state for state in leaves(initial) if isinstance(state, tuple)]


def stepped(layer: Layer, x: Tensor) -> Axis:
    """The time axis of a sequence. Its steps are pinned."""
    return plain(layer, [x[1]], "goes step by step")[0]


def run(layer: Layer, x: Tensor, states: States, initial: Any, output: Axis = None) -> Any:
    """The outputs of a recurrent layer: its last output or all outputs, and its states if it returns them.

    Args:
        layer: the layer.
        x: the sequence.
        states: the channels of each state.
        initial: the initial states, if they are tensors of the model.
        output: the channels of the output; by default those of the first state.
    """
    batch, time = x[0], stepped(layer, x)
    for state, given in zip(states, given_states(initial), strict=False):
        layer.tie(state, given[-1])
    last = states[0] if output is None else output
    outputs = (batch, time, last) if layer["return_sequences"] else (batch, last)
    return [outputs, *((batch, state) for state in states)] if layer["return_state"] else outputs
