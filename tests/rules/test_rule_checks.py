"""Rules that are wrong about a layer are named where they are used: function, line, weight and both shapes."""

import re

import keras
import numpy as np
import pytest

import kerassurgery_fn
from helpers.records import call, functional, layer, snapshot
from kerassurgery_fn import DeleteChannels, analyse, capture, rebuild
from kerassurgery_fn.errors import BrokenSnapshot, PinnedChannels
from kerassurgery_fn.rules import RULES, Rule


def model(rule, monkeypatch, shapes=((4,), (4, 4)), out=(None, 3, 4)):
    """A layer of one's own between two others, with weights of some shapes, and its rule."""
    monkeypatch.setitem(RULES, "mine>Gate", Rule(rule))
    record = functional(
        "net", {"x": (None, 3, 5)}, call(layer("Dense", "a", units=4), "x"),
        call(layer("Gate", "g", module="mine", registered_name="mine>Gate"), "a", out=out),
        call(layer("Dense", "b", units=2), "g"), outputs="b",
    )  # fmt: skip
    return snapshot(record, {"g": tuple(map(np.zeros, shapes))})


def right(layer, x):
    layer.weight("scale", (x[-1],))
    layer.weight("mix", (x[-1], 4))
    return x


def forgets(layer, x):
    layer.weight("scale", (x[-1],))
    return x


def names_the_batch(layer, x):
    layer.weight("scale", (x[0],))
    layer.weight("mix", (x[-1], 4))
    return x


def names_the_steps(layer, x):
    layer.weight("scale", (x[-1],))
    layer.weight("mix", (x[1], 4))
    return x


def names_one_axis(layer, x):
    layer.weight("scale", (x[-1],))
    layer.weight("mix", (x[-1],))
    return x


def turns(layer, x):
    right(layer, x)
    return (x[0], x[2], x[1])


def loses_an_axis(layer, x):
    right(layer, x)
    return x[1:]


def makes_a_size(layer, x):
    right(layer, x)
    return x[-1]


WRONG = {
    forgets: r"names 1 weights \(scale\), but it has 2, of shapes \(4,\), \(4, 4\)",
    names_the_batch: r"gives weight 'scale' axes of sizes \(None,\), but its shape is \(4,\)",
    names_the_steps: r"gives weight 'mix' axes of sizes \(3, 4\), but its shape is \(4, 4\)",
    names_one_axis: r"gives weight 'mix' axes of sizes \(4,\), but its shape is \(4, 4\)",
    turns: r"has an output of shape \(None, 3, 4\), where its rule expects \(None, 4, 3\)",
    loses_an_axis: r"has an output of shape \(None, 3, 4\), where its rule expects \(3, 4\)",
    makes_a_size: r"where a tuple with the axes of a tensor is expected",
}


@pytest.mark.parametrize("rule", WRONG, ids=[rule.__name__ for rule in WRONG])
def test_a_wrong_rule_is_named(rule, monkeypatch):
    where = rf"{rule.__name__} \({__name__}, line {rule.__code__.co_firstlineno}\)"
    with pytest.raises(PinnedChannels, match=rf"'g' \(Gate\).*{WRONG[rule]}.*{where}") as caught:
        DeleteChannels("a", [0])(model(rule, monkeypatch))
    assert "defect" not in str(caught.value)


def test_a_right_rule_is_used(monkeypatch):
    before = model(right, monkeypatch)
    assert analyse(before).opaque == {}
    smaller = DeleteChannels("a", [0])(before)
    assert [array.shape for array in smaller.weights["g"]] == [(3,), (3, 4)]


def test_a_rule_that_makes_too_few_tensors(monkeypatch):
    monkeypatch.setitem(RULES, "mine>Twice", Rule(lambda layer, x: [x]))
    record = functional(
        "net", {"x": (None, 5)}, call(layer("Dense", "a", units=4), "x"),
        call(layer("Twice", "t", module="mine", registered_name="mine>Twice"), "a", out=[(None, 4)] * 2),
        call(layer("Dense", "b", units=2), ("t", 0, 1)), outputs="b",
    )  # fmt: skip
    assert re.search("has more outputs than the 1 .*line", analyse(snapshot(record, {})).opaque["t"])


def test_a_wrong_rule_of_the_library_is_a_defect(monkeypatch):
    record = functional("net", {"x": (None, 5)}, call(layer("Dense", "a", units=4), "x"), outputs="a")
    odd = analyse(snapshot(record, {"a": (np.zeros((5, 4)), np.zeros(3))})).opaque["a"]
    assert re.search(
        r"'bias' axes of sizes \(4,\), but its shape is \(3,\); .*rules.core.*defect of kerassurgery_fn", odd
    )


@pytest.mark.keras
def test_a_rule_that_names_another_axis_of_the_same_size_is_named_at_rebuild(monkeypatch):
    @keras.saving.register_keras_serializable("rule_checks")
    class Scale(keras.layers.Layer):
        def build(self, shape):
            self.scale = self.add_weight((shape[-1],), name="scale")

        def call(self, x):
            return x * self.scale

    def scale(layer, x, **_):
        layer.weight("scale", (x[1],))
        return x

    monkeypatch.setitem(RULES, "rule_checks>Scale", Rule(scale))
    assert kerassurgery_fn.rules.RULES is RULES
    x = keras.Input((4, 3))
    net = keras.Model(x, keras.layers.Dense(2)(Scale(name="s")(keras.layers.Dense(4, name="d")(x))))
    smaller = DeleteChannels("d", [0])(capture(net))
    where = rf"scale \({__name__}, line {scale.__code__.co_firstlineno}\)"
    with pytest.raises(BrokenSnapshot, match=rf"'s'.*\(3,\).*\(4,\).*'scale'.*{re.escape('<locals>.')}{where}"):
        rebuild(smaller)
