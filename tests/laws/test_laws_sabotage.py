"""The laws find what is wrong: rules and edits with a mistake in them do not pass."""

import ctypes
import doctest
from dataclasses import replace

import keras
import numpy as np
import pytest
from keras import layers as L

from helpers import filling, judging, laws
from helpers.laws import check_law
from helpers.small_models import chain
from kerassurgery_fn import DeleteChannels, KeepChannels
from kerassurgery_fn.channels import join, merge, repeat
from kerassurgery_fn.errors import BrokenSnapshot
from kerassurgery_fn.rules import RULES
from kerassurgery_fn.values.snapshot import Snapshot

pytestmark = pytest.mark.keras


def branches():
    x = keras.Input((6,))
    a, b = L.Dense(5, name="a")(x), L.Dense(5, name="b")(x)
    return keras.Model(x, L.Dense(3)(L.Concatenate()([L.Dense(5)(x), L.Add()([a, b])])))


def conv(*layers):
    return lambda: chain((6, 6, 3), L.Conv2D(6, 2, name="a"), *(layer() for layer in layers), L.Conv2D(4, 1))


def flattened(layer, x, **_):
    """Channels first, where the layer has them last."""
    return x[0], merge([x[-1], *x[1:-1]])


def interleaved(layer, x, **_):
    """The multiplier's copies side by side, where the layer has them one after the other."""
    m = layer.fresh("depth_multiplier")
    w = merge([m, x[-1]])
    layer.weights(depthwise_kernel="..im", bias="w", space=layer["kernel_size"], i=x[-1], m=m, w=w)
    return (x[0], 4, 4, w)


def gates_together(layer, sequences, *_, **__):
    """The four gates of each unit together, where the layer has all units of a gate together."""
    o = layer.fresh("units")
    layer.weights(kernel="ig", recurrent_kernel="og", bias="g", i=sequences[-1], o=o, g=repeat(o, 4))
    return sequences[0], o


def turned(layer, inputs, **_):
    """The last input first."""
    return (*inputs[0][:-1], join([x[-1] for x in reversed(inputs)]))


def untied(layer, inputs, **_):
    """The first input is all that counts."""
    return inputs[0]


def reordered(layer, x, **_):
    """A normalisation over other channels than those it is given."""
    c = x[-1][:, ::-1]
    layer.weights(gamma="c", beta="c", moving_mean="c", moving_variance="c", c=c)
    return x


def unmoved(layer, x, **_):
    """Axes that stay where they are."""
    return x


def split_the_other_way(layer, x, **_):
    """A grid whose axes are taken for each other."""
    rows, columns = layer.grid(x[-1], layer["target_shape"])
    layer.size(("target_shape", 0), columns)
    layer.size(("target_shape", 1), rows)
    return (*x[:-1], columns, rows)


# the class whose rule is replaced, a wrong rule, a model
RULE_MISTAKES = {
    "flatten": ("Flatten", flattened, conv()),
    "depth multiplier": ("DepthwiseConv2D", interleaved, conv(lambda: L.DepthwiseConv2D(2, depth_multiplier=3))),
    "gates": ("LSTM", gates_together, lambda: chain((5, 4), L.Dense(6), L.LSTM(7))),
    "concatenate": ("Concatenate", turned, branches),
    "add": ("Add", untied, branches),
    "batch normalization": ("BatchNormalization", reordered, conv(L.BatchNormalization)),
    "permute": ("Permute", unmoved, lambda: chain((6, 3), L.Dense(6), L.Permute((2, 1)), L.Dense(6))),
    "split": (
        "Reshape", split_the_other_way, lambda: chain((3,), L.Dense(16), L.Reshape((4, 4)), L.Dense(5)),
    ),
}  # fmt: skip


@pytest.mark.parametrize("class_name, wrong, make", RULE_MISTAKES.values(), ids=RULE_MISTAKES.keys())
def test_a_wrong_rule_is_found(monkeypatch, class_name, wrong, make):
    """One cut in three is enough: now and then a wrong rule and a right one mean the same channels."""
    check_law(make())
    monkeypatch.setitem(RULES, class_name, replace(RULES[class_name], channels=wrong))
    with pytest.raises((AssertionError, BrokenSnapshot)):
        check_cuts(make)


def check_cuts(make):
    for seed in range(3):
        check_law(make(), seed=seed)


def with_record(snapshot, name, **fields):
    """The snapshot with other fields in a layer's config."""
    layers = [
        {**layer, "config": {**layer["config"], **fields}} if layer["name"] == name else layer
        for layer in snapshot.config["layers"]
    ]
    return Snapshot({**snapshot.record, "config": {**snapshot.config, "layers": layers}}, snapshot.weights)


def with_weights(snapshot, name, change):
    arrays = tuple(map(change, snapshot.weights[name]))
    return Snapshot(snapshot.record, {**snapshot.weights, name: arrays}, snapshot.training)


def stale_shapes(snapshot):
    smaller = DeleteChannels("a", [1, 3])(snapshot)
    layers = [
        {**new, "inbound_nodes": old["inbound_nodes"]}
        for new, old in zip(smaller.config["layers"], snapshot.config["layers"], strict=True)
    ]
    return Snapshot({**smaller.record, "config": {**smaller.config, "layers": layers}}, smaller.weights)


def other_channels(snapshot):
    """A producer that has lost other channels than its consumers."""
    one, other = DeleteChannels("a", [1, 3])(snapshot), DeleteChannels("a", [0, 3])(snapshot)
    return Snapshot(one.record, {**one.weights, "a": other.weights["a"]})


def written_in_place(snapshot):
    array = snapshot.weights["a"][0]
    doubled = 2 * array
    ctypes.memmove(array.ctypes.data, doubled.ctypes.data, array.nbytes)  # no flag keeps it from the memory
    return DeleteChannels("a", [1, 3])(snapshot)


class Moody:
    """An edit that does not do the same thing twice."""

    def __init__(self):
        self.calls = 0

    def __call__(self, snapshot):
        self.calls += 1
        return DeleteChannels("a", [self.calls])(snapshot)


EDIT_MISTAKES = {
    "another name for a layer's field": lambda s: with_record(DeleteChannels("a", [1, 3])(s), "a", padding="same"),
    "stale shapes": stale_shapes,
    "weights turned": lambda s: with_weights(DeleteChannels("a", [1, 3])(s), "a", lambda a: a[..., ::-1]),
    "weights scaled": lambda s: with_weights(DeleteChannels("a", [1, 3])(s), "a", lambda a: a * np.float32(1.001)),
    "weights stacked": lambda s: with_weights(DeleteChannels("a", [1, 3])(s), "a", lambda a: a + np.float32(1e-3)),
    "other channels in the consumer": other_channels,
    "an argument that is written to": written_in_place,
    "another result at the second time": Moody(),
    "nothing": KeepChannels("a", range(6)),
}


@pytest.mark.parametrize("name", EDIT_MISTAKES)
def test_a_wrong_edit_is_found(name):
    with pytest.raises((AssertionError, BrokenSnapshot)):
        check_law(conv(L.ReLU)(), EDIT_MISTAKES[name])


def test_a_model_whose_outputs_ignore_its_channels_is_found():
    """Where two channels can be swapped and nothing is to be seen, the comparison would have passed anything."""
    x = keras.Input((6,))
    y = L.Dense(3, kernel_initializer="zeros")(L.Dense(8)(x))
    silent = L.Dense(3, name="silent")
    model = keras.Model(x, silent(L.ReLU(max_value=0.0)(y)))
    with pytest.raises(AssertionError):
        check_law(model)


@pytest.mark.parametrize("module", [laws, filling, judging], ids=lambda module: module.__name__)
def test_the_examples_of_the_laws(module):
    found = doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert (found.failed, found.attempted > 0) == (0, True)
