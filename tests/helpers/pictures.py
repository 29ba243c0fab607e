"""Small models whose channels have names, so that what an edit should give can be drawn:
`DeleteChannels("a", [0])(chain([0, 1, 2])) == chain([1, 2])`.

A list names the channels of a layer; every element of a weight is made of the names of the channels that it joins.
"""

import numpy as np

from helpers.records import call, functional, layer, numbers, sequential
from kerassurgery_fn.values.snapshot import Snapshot, Training


def dense(name, channels, **config):
    return layer("Dense", name, units=len(channels), **config)


def between(inputs, channels):
    """The weights of a dense layer."""
    return numbers(inputs, channels), numbers(channels)


def chain(a=(0, 1, 2, 3), b=(0, 1, 2), c=(0, 1), training=False):
    """Three dense layers, one after the other."""
    record = sequential("chain", (None, 5), dense("a", a), layer("ReLU", "relu"), dense("b", b), dense("c", c))
    weights = {"a": between(5, a), "b": between(a, b), "c": between(b, c)}
    return Snapshot(record, weights, momenta(weights) if training else None)


def momenta(weights):
    """The state of an optimizer that keeps one slot for each weight, half of what the weight is, and a counter."""
    owners = [(path, index) for path, arrays in weights.items() for index in range(len(arrays))]
    return Training((None, *owners), (np.array(7), *(weights[path][index] / 2 for path, index in owners)))


def image(a=(0, 1, 2, 3), b=(0, 1)):
    """A convolution, a normalisation of its channels, and a dense layer on the flattened image."""
    record = functional(
        "image", {"x": (None, 3, 3, 2)},
        call(layer("Conv2D", "a", filters=len(a)), "x"),
        call(layer("BatchNormalization", "norm"), "a"),
        call(layer("Flatten", "flat"), "norm"),
        call(dense("b", b), "flat"),
        outputs="b",
    )  # fmt: skip
    flat = [8 * place + channel for place in range(4) for channel in a]
    weights = {"a": (numbers(2, 2, 2, a), numbers(a)), "norm": tuple(numbers([i], a)[0] for i in range(4)),
               "b": between(flat, b)}  # fmt: skip
    return Snapshot(record, weights)


def residual(p=(0, 1, 2), q=(0, 1)):
    """Two dense layers whose outputs are added, the second on the first's."""
    record = functional(
        "residual", {"x": (None, 5)},
        call(dense("p", p), "x"), call(dense("q", p), "p"), call(layer("Add", "sum"), ["p", "q"]),
        call(dense("r", q), "sum"), outputs="r",
    )  # fmt: skip
    return Snapshot(record, {"p": between(5, p), "q": between(p, p), "r": between(p, q)})


def fork(p=(0, 1), q=(0, 1, 2), r=(0,), out=(0, 1)):
    """Dense layers side by side whose outputs are concatenated; one without channels is not there."""
    sides = {name: channels for name, channels in {"p": p, "q": q, "r": r}.items() if len(channels)}
    joined = [16 * "pqr".index(name) + channel for name, channels in sides.items() for channel in channels]
    merged = [call(layer("Concatenate", "cat"), [*sides])] if len(sides) > 1 else []
    record = functional(
        "fork", {"x": (None, 5)}, *[call(dense(name, channels), "x") for name, channels in sides.items()], *merged,
        call(dense("out", out), "cat" if merged else next(iter(sides))), outputs="out",
    )  # fmt: skip
    weights = {name: between(5, channels) for name, channels in sides.items()}
    return Snapshot(record, {**weights, "out": between(joined, out)})


def shared(p=(0, 1), s=(0, 1, 2)):
    """A dense layer on the outputs of two others."""
    record = functional(
        "shared", {"x": (None, 5), "y": (None, 4)},
        call(dense("p", p), "x"), call(dense("q", p), "y"), call(dense("s", s), "p"), call("s", "q"),
        call(dense("t", (0,)), "s"), call(dense("u", (0,)), ("s", 1, 0)),
        outputs=["t", "u"],
    )  # fmt: skip
    return Snapshot(record, {
        "p": between(5, p), "q": between(4, p), "s": between(p, s), "t": between(s, 1), "u": between(s, 1),
    })  # fmt: skip


def nested(p=(0, 1), a=(0, 1, 2), b=(0, 1)):
    """A model of two dense layers, called on the output of a dense layer and on that of another one."""
    inner = functional("inner", {"i": (None, len(p))}, call(dense("a", a), "i"), call(dense("b", b), "a"), outputs="b")
    record = functional(
        "nested", {"x": (None, 5), "y": (None, 4)},
        call(dense("p", p), "x"), call(dense("q", p), "y"), call(inner, "p"), call("inner", "q"),
        call(dense("t", (0,)), "inner"), call(dense("u", (0,)), ("inner", 1, 0)),
        outputs=["t", "u"],
    )  # fmt: skip
    return Snapshot(record, {
        "p": between(5, p), "q": between(4, p), "inner/a": between(p, a), "inner/b": between(a, b),
        "t": between(b, 1), "u": between(b, 1),
    })  # fmt: skip


def grouped(groups=(0, 1), a=(0, 1), b=(0, 1, 2)):
    """A convolution and a grouped one on it: `a` and `b` name the places within each group of the two."""
    channels, filters = ([8 * group + place for group in groups for place in places] for places in (a, b))
    record = functional(
        "grouped", {"x": (None, 4, 4, 2)},
        call(layer("Conv2D", "a", filters=len(channels)), "x"),
        call(layer("Conv2D", "b", filters=len(filters), groups=len(groups)), "a"),
        call(layer("Conv2D", "c", filters=2), "b"),
        outputs="c",
    )  # fmt: skip
    return Snapshot(record, {
        "a": (numbers(2, 2, 2, channels), numbers(channels)),
        "b": (numbers(2, 2, a, filters), numbers(filters)),
        "c": (numbers(2, 2, filters, 2), numbers(2)),
    })  # fmt: skip
