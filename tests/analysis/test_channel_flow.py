"""Rules over graphs: the channel map of every tensor and weight, against maps written down by hand.

In these maps a position is named by the channels with which it dies: `p0` for channel 0 of layer p, `p0+q1` where it
dies with either. An axis without ids is its size.
"""

import re

import numpy as np
import pytest

from helpers.records import call, constant, functional, layer, operation, sequential, snapshot
from kerassurgery_fn import DeleteChannels, WidenChannels
from kerassurgery_fn.analysis.channel_flow import analyse
from kerassurgery_fn.channels import FIXED, has_ids
from kerassurgery_fn.errors import AmbiguousLayer, NoChannels, PinnedChannels, UnknownLayer
from kerassurgery_fn.graph import Ref
from kerassurgery_fn.rules import RULES, Rule

X = {"x": (None, 6)}


def dense(name, units=2, **config):
    return layer("Dense", name, units=units, **config)


def flow_of(record, **weights):
    """The flow of a model; weights are given by their shapes."""
    return analyse(snapshot(record, {path: tuple(map(np.zeros, shapes)) for path, shapes in weights.items()}))


def names(flow):
    """Final id -> the channel that is named after it, that of the layer that comes first; lines of grids by number."""
    found = {FIXED: "-"} | {one: f"line{one}" for one in range(flow.solution.ids)}
    for producer in reversed(flow.producers.values()):
        short = producer.path.split("/")[-1]
        for index, ids in enumerate(flow.solution.resolve(producer.axis).T.tolist()):
            if len(set(ids)) == 1:
                found[ids[0]] = f"{short}{index}"
    return found


def written(flow, axes):
    """Axes in words."""
    named = names(flow)
    return [
        " ".join("+".join(dict.fromkeys(named[i] for i in ids)) for ids in flow.solution.resolve(axis).T.tolist())
        if has_ids(axis)
        else axis
        for axis in axes
    ]


def weights(flow, path):
    return {weight.name: written(flow, weight.axes) for weight in flow.weights.get(path, ())}


def tensor(flow, path, *node, output=0):
    return written(flow, flow.tensors[Ref(path, node or (0,), output)])


def pinned(flow, path):
    """Which channels of a layer cannot be cut."""
    producer = flow.producer(path)
    held = flow.solution.pinned(output=False)[flow.solution.resolve(producer.axis)].any(axis=0)
    return np.flatnonzero(held).tolist()


def reasons(flow, path):
    """Why channels of a layer are pinned, outputs aside."""
    final = np.unique(flow.solution.resolve(flow.producer(path).axis)).tolist()
    pins = [pin for one in final for pin in flow.solution.reasons.get(one, []) if not pin.output]
    return list(dict.fromkeys(str(pin.reason) for pin in pins))


def groups(flow, path, *dead):
    """The channels of a layer that die with each of some channels of others, given as (path, channel)."""
    found = []
    for other, channel in dead:
        mask = flow.solution.none_dead()
        mask[flow.solution.resolve(flow.producer(other).axis[:, [channel]])] = True
        axis = flow.producer(path).axis
        found.append(sorted(set(range(axis.shape[1])) - set(flow.solution.kept(axis, mask).tolist())))
    return found


# --- one layer, fed by the channels p0, p1, ... of a dense layer before it

LAYERS = {
    "dense": (
        (None, 2), dense("q", 3),
        {"kernel": ["p0 p1", "q0 q1 q2"], "bias": ["q0 q1 q2"]},
        [None, "q0 q1 q2"],
    ),
    "dense without bias": (
        (None, 2), dense("q", 3, use_bias=False), {"kernel": ["p0 p1", "q0 q1 q2"]}, [None, "q0 q1 q2"],
    ),
    "dense on a sequence": (
        (None, 5, 2), dense("q", 3),
        {"kernel": ["p0 p1", "q0 q1 q2"], "bias": ["q0 q1 q2"]},
        [None, 5, "q0 q1 q2"],
    ),
    "convolution": (
        (None, 5, 4, 2), layer("Conv2D", "q", filters=3, kernel_size=[3, 2]),
        {"kernel": [3, 2, "p0 p1", "q0 q1 q2"], "bias": ["q0 q1 q2"]},
        [None, 3, 3, "q0 q1 q2"],
    ),
    "convolution with strides and padding": (
        (None, 5, 4, 2), layer("Conv2D", "q", filters=1, strides=[2, 2], padding="same"),
        {"kernel": [2, 2, "p0 p1", "q0"], "bias": ["q0"]},
        [None, 3, 2, "q0"],
    ),
    "transposed convolution": (
        (None, 5, 4, 2), layer("Conv2DTranspose", "q", filters=3, strides=[2, 2]),
        {"kernel": [2, 2, "q0 q1 q2", "p0 p1"], "bias": ["q0 q1 q2"]},
        [None, 10, 8, "q0 q1 q2"],
    ),
    "depthwise convolution": (
        (None, 5, 4, 2), layer("DepthwiseConv2D", "q"),
        {"kernel": [2, 2, "p0 p1", 1], "bias": ["p0 p1"]},
        [None, 4, 3, "p0 p1"],
    ),
    "depthwise convolution that multiplies channels": (
        (None, 5, 4, 2), layer("DepthwiseConv2D", "q", depth_multiplier=3),
        {
            "kernel": [2, 2, "p0 p1", "q0 q1 q2"],
            "bias": ["p0+q0 p0+q1 p0+q2 p1+q0 p1+q1 p1+q2"],
        },
        [None, 4, 3, "p0+q0 p0+q1 p0+q2 p1+q0 p1+q1 p1+q2"],
    ),
    "batch normalisation": (
        (None, 5, 2), layer("BatchNormalization", "q"),
        {name: ["p0 p1"] for name in ("gamma", "beta", "moving_mean", "moving_variance")},
        [None, 5, "p0 p1"],
    ),
    "batch normalisation without scale and center": (
        (None, 2), layer("BatchNormalization", "q", scale=False, center=False),
        {name: ["p0 p1"] for name in ("moving_mean", "moving_variance")},
        [None, "p0 p1"],
    ),
    "LSTM": (
        (None, 5, 2), layer("LSTM", "q", units=2),
        {
            "kernel": ["p0 p1", "q0 q1 q0 q1 q0 q1 q0 q1"],
            "recurrent_kernel": ["q0 q1", "q0 q1 q0 q1 q0 q1 q0 q1"],
            "bias": ["q0 q1 q0 q1 q0 q1 q0 q1"],
        },
        [None, "q0 q1"],
    ),
    "LSTM that returns sequences": (
        (None, 5, 2), layer("LSTM", "q", units=1, return_sequences=True, use_bias=False),
        {"kernel": ["p0 p1", "q0 q0 q0 q0"], "recurrent_kernel": ["q0", "q0 q0 q0 q0"]},
        [None, 5, "q0"],
    ),
    "GRU": (
        (None, 5, 2), layer("GRU", "q", units=2),
        {
            "kernel": ["p0 p1", "q0 q1 q0 q1 q0 q1"],
            "recurrent_kernel": ["q0 q1", "q0 q1 q0 q1 q0 q1"],
            "bias": [2, "q0 q1 q0 q1 q0 q1"],
        },
        [None, "q0 q1"],
    ),
    "GRU as of old": (
        (None, 5, 2), layer("GRU", "q", units=1, reset_after=False),
        {"kernel": ["p0 p1", "q0 q0 q0"], "recurrent_kernel": ["q0", "q0 q0 q0"], "bias": ["q0 q0 q0"]},
        [None, "q0"],
    ),
    "simple RNN": (
        (None, 5, 2), layer("SimpleRNN", "q", units=2),
        {"kernel": ["p0 p1", "q0 q1"], "recurrent_kernel": ["q0 q1", "q0 q1"], "bias": ["q0 q1"]},
        [None, "q0 q1"],
    ),
    "flatten": ((None, 2, 1, 2), layer("Flatten", "q"), {}, [None, "p0 p1 p0 p1"]),
    "a reshape that keeps the channels": (
        (None, 6, 2), layer("Reshape", "q", target_shape=[2, 3, 2]), {}, [None, 2, 3, "p0 p1"],
    ),
    "a reshape that lays them flat": (
        (None, 3, 2), layer("Reshape", "q", target_shape=[6]), {}, [None, "p0 p1 p0 p1 p0 p1"],
    ),
    "pooling": ((None, 5, 4, 2), layer("MaxPooling2D", "q"), {}, [None, 2, 2, "p0 p1"]),
    "pooling over all of space": ((None, 5, 4, 2), layer("GlobalAveragePooling2D", "q"), {}, [None, "p0 p1"]),
    "activation": ((None, 5, 2), layer("ReLU", "q"), {}, [None, 5, "p0 p1"]),
    "activation by name": ((None, 2), layer("Activation", "q", activation="tanh"), {}, [None, "p0 p1"]),
    "dropout": ((None, 2), layer("Dropout", "q"), {}, [None, "p0 p1"]),
    "softmax": ((None, 2), layer("Softmax", "q"), {}, [None, "p0 p1"]),
}  # fmt: skip


@pytest.mark.parametrize("shape, record, expected, made", LAYERS.values(), ids=LAYERS)
def test_the_maps_of_one_layer(shape, record, expected, made):
    first = dense("p", 2)
    out = (None, *[one if isinstance(one, int) else len(one.split()) for one in made[1:]])
    net = functional("net", {"x": (*shape[:-1], 3)}, call(first, "x"), call(record, "p", out=out), outputs="q")
    flow = flow_of(net)
    assert flow.opaque == {}
    assert weights(flow, "p") == {"kernel": [3, "p0 p1"], "bias": ["p0 p1"]}
    assert weights(flow, "q") == expected
    assert tensor(flow, "q") == made
    assert pinned(flow, "p") == []


def test_an_embedding():
    flow = flow_of(sequential("net", (None, 5), layer("Embedding", "e", input_dim=9, output_dim=3), dense("d")))
    assert weights(flow, "e") == {"embeddings": [9, "e0 e1 e2"]}
    assert tensor(flow, "e") == [None, 5, "e0 e1 e2"]
    assert weights(flow, "d")["kernel"] == ["e0 e1 e2", "d0 d1"]


def test_channels_first():
    conv = layer("Conv2D", "q", filters=3, data_format="channels_first")
    norm = layer("BatchNormalization", "n", axis=1)
    net = functional(
        "net", {"x": (None, 2, 5, 5)}, call(conv, "x", out=(None, 3, 4, 4)), call(norm, "q"),
        call(layer("Flatten", "f", data_format="channels_first"), "n"), outputs="f",
    )  # fmt: skip
    flow = flow_of(net)
    assert weights(flow, "q") == {"kernel": [2, 2, 2, "q0 q1 q2"], "bias": ["q0 q1 q2"]}
    assert tensor(flow, "q") == [None, "q0 q1 q2", 4, 4]
    assert weights(flow, "n")["gamma"] == ["q0 q1 q2"]
    assert flow.tensors[Ref("f", (0,), 0)][1].shape == (1, 48)


def test_a_recurrent_layer_s_states():
    lstm = layer("LSTM", "q", units=2, return_state=True)
    net = functional("net", {"x": (None, 5, 3)}, call(lstm, "x", out=[(None, 2)] * 3), outputs=["q", ("q", 0, 2)])
    flow = flow_of(net)
    assert [tensor(flow, "q", output=i) for i in range(3)] == [[None, "q0 q1"]] * 3


def test_a_recurrent_layer_that_starts_from_states():
    lstm = layer("LSTM", "q", units=2)
    net = functional(
        "net", {"x": (None, 5, 3), "y": (None, 3)}, call(dense("h"), "y"), call(dense("c"), "y"),
        call(lstm, "x", initial_state=["h", "c"], out=(None, 2)), outputs="q",
    )  # fmt: skip
    flow = flow_of(net)
    assert groups(flow, "q", ("h", 0), ("c", 1)) == [[0], [1]]


# --- layers that merge


def merged(record, *units, shape=(None, 3), **how):
    """Dense layers p, q, ... of so many units and a layer that merges them."""
    letters = "pqr"[: len(units)]
    producers = [call(dense(name, n), "x") for name, n in zip(letters, units, strict=True)]
    return flow_of(functional("net", {"x": shape}, *producers, call(record, [*letters], **how), outputs="m"))


@pytest.mark.parametrize("kind", ["Add", "Multiply", "Subtract", "Maximum", "Minimum", "Average"])
def test_channels_combined_element_by_element_are_tied(kind):
    flow = merged(layer(kind, "m"), 2, 2, 2, out=(None, 2))
    assert tensor(flow, "m") == [None, "p0 p1"]
    assert groups(flow, "r", ("p", 1), ("q", 0)) == [[1], [0]]
    assert pinned(flow, "p") == []


def test_concatenated_channels_are_independent():
    flow = merged(layer("Concatenate", "m"), 2, 1, 3)
    assert tensor(flow, "m") == [None, "p0 p1 q0 r0 r1 r2"]
    assert groups(flow, "q", ("p", 0), ("r", 0)) == [[], []]


def test_channels_concatenated_along_another_axis_are_tied():
    flow = merged(layer("Concatenate", "m", axis=1), 2, 2, shape=(None, 4, 3), out=(None, 8, 2))
    assert tensor(flow, "m") == [None, 8, "p0 p1"]
    assert groups(flow, "q", ("p", 1)) == [[1]]


def test_a_broadcast_axis_ties_nothing():
    flow = merged(layer("Multiply", "m"), 3, 1, out=(None, 3))
    assert tensor(flow, "m") == [None, "p0 p1 p2"]
    assert groups(flow, "p", ("q", 0)) == [[]]


def test_channels_that_meet_the_input_are_pinned():
    net = functional("net", {"x": (None, 2)}, call(dense("p"), "x"), call(layer("Add", "m"), ["p", "x"]), outputs="m")
    flow = flow_of(net)
    assert pinned(flow, "p") == [0, 1]
    assert reasons(flow, "p") == ["'m' (Add) joins it with positions that are not channels"]


def test_channels_that_are_concatenated_with_the_input_are_free():
    net = functional(
        "net", {"x": (None, 2)}, call(dense("p"), "x"), call(layer("Concatenate", "m"), ["p", "x"]),
        call(dense("d", 1), "m"), outputs="d",
    )  # fmt: skip
    flow = flow_of(net)
    assert weights(flow, "d")["kernel"] == ["p0 p1 - -", "d0"]
    assert pinned(flow, "p") == []


# --- grids


def test_a_grouped_convolution_ties_its_groups_to_those_of_its_input():
    net = functional(
        "net", {"x": (None, 4, 4, 3)}, call(layer("Conv2D", "p", filters=4), "x"),
        call(layer("Conv2D", "q", filters=6, groups=2), "p"), outputs="q",
    )  # fmt: skip
    flow = flow_of(net, q=[(2, 2, 2, 6), (6,)])
    assert flow.opaque == {}
    group, place = 0, 1
    kernel = flow.weights["q"][0].axes
    assert [axis if isinstance(axis, int) else axis.shape for axis in kernel] == [2, 2, (1, 2), (1, 6)]
    resolved = flow.solution.resolve(flow.producer("p").axis)
    groups_of_p, places_of_p = resolved[[group, place]]
    assert groups_of_p.tolist() == [groups_of_p[0]] * 2 + [groups_of_p[2]] * 2
    assert places_of_p.tolist() == [places_of_p[0], places_of_p[1]] * 2
    groups_of_q = flow.solution.resolve(flow.producer("q").axis)[group]
    assert groups_of_q.tolist() == [groups_of_p[0]] * 3 + [groups_of_p[2]] * 3
    assert flow.solution.resolve(kernel[2])[0].tolist() == places_of_p[:2].tolist()


def test_the_groups_of_the_input_itself_are_pinned_and_the_places_in_them_are_free():
    net = functional("net", {"x": (None, 4, 4, 4)}, call(layer("Conv2D", "q", filters=6, groups=2), "x"), outputs="q")
    flow = flow_of(net)
    groups_of_q, places = flow.solution.resolve(flow.producer("q").axis)
    held = flow.solution.pinned(output=False)
    assert held[groups_of_q].all()
    assert not held[places].any()
    assert weights(flow, "q")["kernel"][:3] == [2, 2, 2]


def test_a_reshape_that_splits_channels_counts_its_sizes_again():
    net = functional(
        "net", X, call(dense("p", 6), "x"), call(layer("Reshape", "q", target_shape=[2, 3]), "p"),
        call(dense("d"), "q"), outputs="d",
    )  # fmt: skip
    flow = flow_of(net)
    rows, columns = flow.tensors[Ref("q", (0,), 0)][1:]
    assert flow.solution.resolve(flow.producer("p").axis).tolist() == [
        np.repeat(flow.solution.resolve(rows)[0], 3).tolist(), np.tile(flow.solution.resolve(columns)[0], 2).tolist(),
    ]  # fmt: skip
    places = {place[-2:]: count.axis.shape[1] for place, count in flow.sizes.items() if "target_shape" in place}
    assert places == {("target_shape", 0): 2, ("target_shape", 1): 3}


# --- calls


def test_a_shared_layer_ties_its_inputs():
    net = functional(
        "net", {"x": (None, 3), "y": (None, 3)}, call(dense("p"), "x"), call(dense("q"), "y"), call(dense("s", 1), "p"),
        call("s", "q"), outputs=["s", ("s", 1, 0)],
    )  # fmt: skip
    flow = flow_of(net)
    assert len(flow.weights["s"]) == 2
    assert groups(flow, "q", ("p", 0), ("p", 1)) == [[0], [1]]
    assert tensor(flow, "s", 1) == tensor(flow, "s") == [None, "s0"]


def test_a_shared_layer_on_the_input_pins_its_other_inputs():
    net = functional(
        "net", {"x": (None, 2)}, call(dense("p"), "x"), call(dense("s", 1), "p"), call("s", "x"),
        outputs=["s", ("s", 1, 0)],
    )  # fmt: skip
    flow = flow_of(net)
    assert pinned(flow, "p") == [0, 1]
    assert reasons(flow, "p") == ["'s' (Dense) is called several times, on different channels"]


def test_a_nested_model_called_twice_ties_its_calls_throughout():
    inner = functional("inner", {"i": (None, 2)}, call(layer("ReLU", "r"), "i"), outputs="r")
    net = functional(
        "net", {"x": (None, 3)}, call(dense("p"), "x"), call(dense("q"), "x"), call(inner, "p"), call("inner", "q"),
        call(dense("d", 1), "inner"), call(dense("e", 1), ("inner", 1, 0)), outputs=["d", "e"],
    )  # fmt: skip
    flow = flow_of(net)
    assert groups(flow, "q", ("p", 0)) == [[0]]
    assert tensor(flow, "inner/r", 1, 0) == [None, "p0 p1"]


def test_a_nested_model_does_not_tie_outputs_it_does_not_read():
    inner = functional("inner", {"i": (None, 2)}, call(layer("ReLU", "r"), "i"), outputs="r")
    halves = [
        call(operation("Split", f"s{name}", indices_or_sections=2, axis=-1), name, out=[(None, 2)] * 2) for name in "pq"
    ]
    net = functional(
        "net", {"x": (None, 3)}, call(dense("p", 4), "x"), call(dense("q", 4), "x"), *halves, call(inner, "sp"),
        call("inner", "sq"), outputs=["inner", ("inner", 1, 0), ("sp", 0, 1), ("sq", 0, 1)],
    )  # fmt: skip
    flow = flow_of(net)
    assert flow.opaque == {}
    assert groups(flow, "q", ("p", 0), ("p", 1), ("p", 2), ("p", 3)) == [[0], [1], [], []]


def test_layers_in_nested_models_have_paths():
    inner = sequential("inner", (None, 6), dense("a"), dense("b"))
    flow = flow_of(functional("net", X, call(inner, "x"), outputs="inner"))
    assert weights(flow, "inner/b") == {"kernel": ["a0 a1", "b0 b1"], "bias": ["b0 b1"]}


def test_an_array_among_the_arguments_is_cut_like_a_weight():
    scale = constant([[1.0, 2.0]])
    net = functional(
        "net", X, call(dense("p"), "x"), call(operation("Multiply", "m"), "p", scale, out=(None, 2)), outputs="m"
    )
    flow = flow_of(net)
    ((place, axes),) = flow.constants.items()
    assert place[-2:] == ("config", "value")
    assert written(flow, axes) == [1, "p0 p1"]


# --- what cannot be cut


def test_outputs_of_the_model_are_pinned_as_such():
    flow = flow_of(sequential("net", (None, 6), dense("a"), dense("b")))
    final = flow.solution.resolve(flow.producer("b").axis)
    assert flow.solution.pinned()[final].all()
    assert not flow.solution.pinned(output=False)[final].any()
    assert [str(pin.reason) for pin in flow.solution.reasons[int(final[0, 0])]] == [
        "it is an output of the model, computed by 'b'"
    ]
    assert not flow.solution.pinned()[flow.producer("a").axis].any()


def test_channels_that_are_normalised_across_are_inexact():
    flow = flow_of(sequential("net", (None, 6), dense("a"), layer("Softmax", "s"), dense("b", activation="softmax")))
    noted = {one.path: (written(flow, [one.axis]), one.reason) for one in flow.inexact}
    assert noted == {
        "s": (["a0 a1"], "normalises over the channels"), "b": (["b0 b1"], "normalises over the channels"),
    }  # fmt: skip


def test_an_unknown_activation_pins_its_channels():
    flow = flow_of(sequential("net", (None, 6), dense("a", activation="mine>mix"), dense("b")))
    (reason,) = reasons(flow, "a")
    assert reason.startswith(
        "'a' (Dense) applies mine>mix, which is not known to treat every channel alone; if it does"
    )


def test_an_activation_can_be_taught(monkeypatch):
    monkeypatch.setitem(RULES, "mine>mix", Rule(lambda layer, x: x))
    written = {"module": "builtins", "class_name": "function", "config": "mine>mix", "registered_name": "function"}
    for given in ("mine>mix", written):
        flow = flow_of(sequential("net", (None, 6), dense("a", activation=given), dense("b")))
        assert not reasons(flow, "a")


# --- opaque layers


def gate(name="g", **config):
    return layer("Gate", name, module="mine", registered_name="mine>Gate", **config)


GATE = (
    "is of the class mine>Gate, which has no rule; add one by a function under "
    '@kerassurgery_fn.rule("mine>Gate")'
)  # fmt: skip


def test_a_class_without_a_rule_pins_its_inputs_and_outputs():
    net = functional(
        "net", X, call(dense("a"), "x"), call(gate(), "a", out=(None, 2)), call(dense("b"), "g"), call(dense("c"), "b"),
        outputs="c",
    )  # fmt: skip
    flow = flow_of(net)
    assert flow.opaque == {"g": GATE}
    assert reasons(flow, "a") == [f"'g' (Gate) {GATE}"]
    batch, channel = flow.tensors[Ref("g", (0,), 0)]
    held = flow.solution.resolve(channel).ravel()
    assert (batch, len(held), flow.solution.pinned(output=False)[held].all()) == (None, 2, True)
    assert weights(flow, "b")["kernel"][1] == "b0 b1"
    assert pinned(flow, "b") == []


def test_an_einsum_of_another_rank_is_opaque():
    """An edit can put the layer there, before its shapes are checked."""
    einsum = layer("EinsumDense", "e", equation="bc,cd->bd", output_shape=[4], bias_axes=None)
    flow = flow_of(functional("net", {"x": (None, 3, 5)}, call(einsum, "x", out=(None, 3, 4)), outputs="e"))
    assert flow.opaque == {"e": "has an equation for tensors of 2 axes, and reads a tensor of 3 axes"}


def test_an_opaque_layer_is_opaque_at_every_place():
    layers = [dense("a"), layer("ReLU", "r"), dense("b"), layer("Dropout", "d"), dense("c"), dense("e")]
    for at in range(1, len(layers)):
        chain = [*layers[:at], gate(), *layers[at:]]
        below = ["x", *(one["config"]["name"] for one in chain)]
        shapes = [(None, 2) if one["class_name"] == "Gate" else None for one in chain]
        calls = [call(one, *under, out=out) for one, out, *under in zip(chain, shapes, below, strict=False)]
        flow = flow_of(functional("net", X, *calls, outputs="e"))
        before = [one["config"]["name"] for one in layers[:at] if one["class_name"] == "Dense"]
        held = [name for name in ("a", "b", "c", "e") if pinned(flow, name)]
        assert held == before[-1:]


def test_consumers_of_an_opaque_layer_without_a_shape_are_opaque():
    net = sequential("net", (None, 6), dense("a"), layer("ReLU", "r"), dense("b"), dense("c"))
    net["config"]["layers"][2] = gate("r")
    del net["config"]["layers"][3]["build_config"]
    flow = flow_of(net)
    assert flow.opaque == {"r": GATE, "b": f"reads a tensor of unknown shape, the output of 'r', which {GATE}"}
    assert flow.tensors[Ref("r", (0,), 0)] is None
    assert pinned(flow, "a") == [0, 1]
    assert weights(flow, "c")["kernel"][1:] == weights(flow, "c")["bias"] == ["c0 c1"]


def test_an_opaque_layer_is_named_through_sums():
    net = functional(
        "net", X, call(gate(), "x", out=(None, 2)), call(dense("a"), "x"),
        call(layer("Add", "p"), ["a", "g"], out=(None, 2)), call(dense("b"), "x"),
        call(operation("Multiply", "q"), "p", "b", out=(None, 2)), call(dense("c"), "x"),
        call(layer("Concatenate", "r"), ["q", "c"], out=(None, 4)), call(dense("d", 4), "x"),
        call(layer("Add", "s"), ["d", "r"], out=(None, 4)), call(dense("e"), "s"), outputs="e",
    )  # fmt: skip
    flow = flow_of(net)
    assert reasons(flow, "a") == reasons(flow, "b") == reasons(flow, "d") == [f"'g' (Gate) {GATE}"]
    assert (pinned(flow, "c"), pinned(flow, "d")) == ([], [0, 1])
    with pytest.raises(
        PinnedChannels, match=re.escape(f"1 channel of 'a', 'b', 'd' cannot be deleted: 'g' (Gate) {GATE}.")
    ):
        DeleteChannels("b", [0])(snapshot(net, {}))


def test_channels_that_do_not_reach_an_opaque_layer_can_be_copied():
    net = functional(
        "net", X, call(gate(), "x", out=(None, 2)), call(dense("a"), "x"),
        call(layer("Concatenate", "r"), ["g", "a"], out=(None, 4)), call(dense("e"), "r"), outputs="e",
    )  # fmt: skip
    arrays = {"a": (np.zeros((6, 2)), np.zeros(2)), "e": (np.arange(8.0).reshape(4, 2), np.zeros(2))}
    kernel = WidenChannels("a", 3)(snapshot(net, arrays)).weights["e"][0]
    assert kernel.shape == (5, 2)
    assert kernel[:2].tolist() == [[0, 1], [2, 3]]
    assert kernel[2:].sum(axis=0).tolist() == [4 + 6, 5 + 7]


def test_weights_of_an_opaque_layer_are_unchanged():
    net = functional("net", X, call(dense("a"), "x"), call(gate(), "a", out=(None, 2)), outputs="g")
    flow = flow_of(net, g=[(2, 2)])
    assert "g" not in flow.weights
    assert flow.opaque == {"g": GATE}


def test_constants_of_an_opaque_layer_are_unchanged():
    net = functional(
        "net", X, call(dense("a"), "x"), call(gate(), "a", by=constant([1.0, 2.0]), out=(None, 2)), outputs="g"
    )
    flow = flow_of(net)
    held = flow.solution.pinned(output=False)
    assert all(held[flow.solution.resolve(axis)].all() for axes in flow.constants.values() for axis in axes)
    assert pinned(flow, "a") == [0, 1]


@pytest.mark.usefixtures("lenient_rules")
@pytest.mark.parametrize("known", [{}, {"s": [(2, 2), (2,)]}])
def test_a_layer_that_fails_at_its_second_call_is_opaque_at_both(known):
    net = functional(
        "net", {"x": (None, 3), "y": (None, 3)}, call(dense("p"), "x"), call(dense("q"), "y"), call(dense("s"), "p"),
        call(gate(), "q", out=(None, 2)), call("s", "g", odd=[1], out=(None, 2)), outputs=["s", ("s", 1, 0)],
    )  # fmt: skip
    node = next(one for one in net["config"]["layers"] if one["config"]["name"] == "s")["inbound_nodes"][1]
    node["args"] = [3.0]
    flow = flow_of(net, **known)
    assert set(flow.opaque) == {"g", "s"}
    assert "s" not in flow.weights
    assert pinned(flow, "p") == pinned(flow, "s") == [0, 1]


@pytest.mark.usefixtures("lenient_rules")
@pytest.mark.parametrize(
    "change, reason",
    [
        (lambda dense: dense["config"].pop("units"),
         "is used in a way that its rule cannot follow (KeyError: 'units')"),
        (lambda dense: dense["config"].update(units=3),
         "has an output of shape (None, 2), where its rule expects (None, 3)"),
        (lambda dense: dense["inbound_nodes"][0].update(kwargs={}, args=[]), "is used in a way that its rule cannot"),
    ],
)  # fmt: skip
def test_a_config_that_does_not_fit_its_rule_makes_a_layer_opaque(change, reason):
    net = functional("net", X, call(dense("a"), "x"), call(dense("b"), "a"), call(dense("c"), "b"), outputs="c")
    change(net["config"]["layers"][2])
    flow = flow_of(net)
    assert list(flow.opaque) == ["b"]
    assert flow.opaque["b"].startswith(reason)


def test_a_rule_that_raises_something_unexpected_fails_the_tests():
    net = functional("net", X, call(dense("a"), "x"), outputs="a")
    del net["config"]["layers"][1]["config"]["units"]
    with pytest.raises(KeyError, match="units"):
        flow_of(net)


def test_weights_that_do_not_fit_the_rule_make_a_layer_opaque():
    net = functional("net", X, call(dense("a"), "x"), call(dense("b"), "a"), call(dense("c"), "b"), outputs="c")
    flow = flow_of(net, a=[(6, 2), (2,)], b=[(2, 2), (2,), (2, 4), (4, 2)], c=[(2, 2), (2,)])
    assert list(flow.opaque) == ["b"]
    assert flow.opaque["b"].startswith(
        "cannot be followed: its rule names 2 weights (kernel, bias), but it has 4, of shapes (2, 2), (2,), (2, 4), "
        "(4, 2); the rule is dense (kerassurgery_fn.rules.core, line "
    )
    assert "a defect of kerassurgery_fn" in flow.opaque["b"]
    assert pinned(flow, "a") == pinned(flow, "b") == [0, 1]
    assert "b" not in flow.weights


def test_a_layer_with_weights_unknown_to_its_rule_pins_its_inputs_and_outputs():
    net = functional("net", X, call(dense("a"), "x"), call(layer("ReLU", "r"), "a"), call(dense("b"), "r"), outputs="b")
    flow = flow_of(net, r=[(2,)])
    assert list(flow.opaque) == ["r"]
    assert pinned(flow, "a") == [0, 1]


# --- addresses


@pytest.fixture
def flow():
    inner = sequential("inner", (None, 5, 5, 2), dense("a"), layer("ReLU", "r"))
    other = sequential("other", (None, 5, 5, 2), dense("a"))
    deep = layer("DepthwiseConv2D", "deep", depth_multiplier=2)
    net = functional(
        "net", {"x": (None, 6, 6, 3)}, call(deep, "x"), call(dense("conv:1"), "deep"), call(inner, "conv:1"),
        call(other, "inner"), call(gate(), "other", out=(None, 2)), outputs="g",
    )  # fmt: skip
    return flow_of(net)


def test_channels_are_addressed_by_layer_or_by_layer_and_kind(flow):
    assert flow.producer("conv:1").kind == "units"
    assert flow.producer("conv:1:units") is flow.producer("conv:1")
    assert flow.producer("deep:depth_multiplier") is flow.producer("deep")
    assert flow.producer("inner/a").path == "inner/a"


@pytest.mark.parametrize(
    "address, error, message",
    [
        ("cnv", UnknownLayer, "no layer named 'cnv'"),
        ("cnv:units", UnknownLayer, "no layer named 'cnv'"),
        ("a", AmbiguousLayer, "2 layers are named 'a': inner/a, other/a"),
        (
            "inner/r",
            NoChannels,
            "layer 'inner/r' creates no channels; delete channels of the layers",
        ),
        ("g", NoChannels, "layer 'g' creates no channels.* It is of the class mine>Gate, which has no rule"),
        ("conv:1:filters", NoChannels, "layer 'conv:1' has channels of the kinds units, but none of 'filters'"),
        ("x", NoChannels, "layer 'x' creates no channels"),
    ],
)
def test_a_wrong_address_lists_the_valid_ones(flow, address, error, message):
    with pytest.raises(error, match=message):
        flow.producer(address)
