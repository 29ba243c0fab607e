"""Branches that lose all their channels go: the law on what is left, and that nothing of them stays behind."""

import keras
import numpy as np
import pytest
from keras import layers as L

from helpers.laws import check_law, random_inputs
from helpers.needs import NEEDS_CHANNELS_FIRST, marked
from kerassurgery_fn import DeleteChannels, capture, rebuild
from kerassurgery_fn.errors import NothingLeft, PinnedChannels

pytestmark = pytest.mark.keras


def read(x, units=5):
    return L.Dense(units, name="top")(L.Flatten()(x))


def names(record):
    """The names of all layers of a record, those of nested models as paths."""
    found = []
    for layer in record["config"]["layers"]:
        name = layer.get("name") or layer["config"]["name"]
        found += [name, *(f"{name}/{one}" for one in names(layer))] if "layers" in layer["config"] else [name]
    return found


def block(x, width=4, scope=""):
    """Branches of an Inception block: each a convolution, one of them behind a bottleneck, one behind pooling."""

    def conv(name, size):
        return L.Conv2D(width, size, padding="same", activation="relu", name=f"{scope}{name}")

    a = conv("a", 1)(x)
    b = L.BatchNormalization(name=f"{scope}b_norm")(conv("b", 3)(conv("b_narrow", 1)(x)))
    c = conv("c", 1)(L.MaxPooling2D(3, 1, padding="same", name=f"{scope}c_pool")(x))
    return L.Concatenate(name=f"{scope}concat")([a, b, c])


def inception(merge=block):
    x = keras.Input((6, 6, 3))
    y = L.Conv2D(5, 3, name="stem")(x)
    return keras.Model(x, read(L.Conv2D(6, 2, name="after")(merge(y))))


def nested_inception():
    x = keras.Input((4, 4, 5))
    inner = keras.Model(x, block(x), name="block")
    z = keras.Input((6, 6, 3))
    return keras.Model(z, read(L.Conv2D(6, 2, name="after")(inner(L.Conv2D(5, 3, name="stem")(z)))))


def residual(branches=1):
    x = keras.Input((6, 6, 3))
    y = L.Conv2D(5, 3, name="stem")(x)
    inner = [
        L.BatchNormalization(name=f"norm_{i}")(
            L.Conv2D(5, 1, name=f"wide_{i}")(L.ReLU(name=f"relu_{i}")(L.Conv2D(4, 1, name=f"narrow_{i}")(y)))
        )
        for i in range(branches)
    ]
    y = L.Add(name="add")([y, *inner])
    return keras.Model(x, read(L.Conv2D(6, 2, name="after")(y)))


def summed_by_operators():
    x = keras.Input((6, 6, 3))
    y = L.Conv2D(5, 3, name="stem")(x)
    y = y + L.Conv2D(5, 1, name="wide")(L.Conv2D(4, 1, name="narrow")(y))
    return keras.Model(x, read(L.Conv2D(6, 2, name="after")(y)))


def joined_by_operation():
    x = keras.Input((6, 6, 3))
    y = L.Conv2D(5, 3, name="stem")(x)
    y = keras.ops.concatenate([y, L.Conv2D(5, 1, name="a")(y), L.Conv2D(4, 1, name="b")(y)], axis=-1)
    return keras.Model(x, read(L.Conv2D(6, 2, name="after")(y)))


def channels_first():
    x = keras.Input((3, 6, 6))
    kwargs = {"data_format": "channels_first"}
    y = L.Concatenate(axis=1, name="concat")([L.Conv2D(4, 3, name=n, **kwargs)(x) for n in "abc"])
    return keras.Model(x, read(L.Conv2D(6, 2, name="after", **kwargs)(y)))


def shared_first():
    """The first of two calls of a shared layer goes, so that the second becomes the first."""
    x, z = keras.Input((6,), name="x"), keras.Input((6,), name="z")
    shared = L.Dense(7, activation="relu", name="shared")
    narrow = L.Dense(4, name="narrow")(shared(x))
    return keras.Model([x, z], L.Dense(3, name="top")(L.Concatenate(name="concat")([narrow, shared(z)])))


def shared_second():
    x, z = keras.Input((6,), name="x"), keras.Input((6,), name="z")
    shared = L.Dense(7, activation="relu", name="shared")
    first = shared(x)
    narrow = L.Dense(4, name="narrow")(shared(z))
    return keras.Model([x, z], L.Dense(3, name="top")(L.Concatenate(name="concat")([narrow, first])))


def nested_branch(inner):
    x = keras.Input((6,), name="x")
    y = L.Dense(6, name="stem")(x)
    narrow = L.Dense(4, name="narrow")(inner(y))
    return keras.Model(x, L.Dense(3, name="top")(L.Concatenate(name="concat")([narrow, L.Dense(5, name="other")(y)])))


def nested_called_twice(inner, first=True):
    """One of two calls of a nested model goes."""
    x = keras.Input((6,), name="x")
    a, b = inner(x), inner(L.Dense(6, name="stem")(x))
    narrow, other = (a, b) if first else (b, a)
    y = L.Concatenate(name="concat")([L.Dense(4, name="narrow")(narrow), other])
    return keras.Model(x, L.Dense(3, name="top")(y))


def inner_functional():
    x = keras.Input((6,))
    return keras.Model(x, L.Dense(5, name="one")(x), name="inner")


def inner_sequential():
    return keras.Sequential([keras.Input((6,)), L.Dense(5, name="one"), L.ReLU()], name="inner")


def two_levels():
    """A join that loses two of its inputs is itself the input of a join."""
    x = keras.Input((6,), name="x")
    a, b, c = (L.Dense(n, name=name)(x) for n, name in ((4, "a"), (5, "b"), (6, "c")))
    inner = L.Dense(4, name="between")(L.Concatenate(name="low")([a, b]))
    return keras.Model(x, L.Dense(3, name="top")(L.Concatenate(name="high")([inner, c])))


def same_join_twice():
    """One tensor stands twice in a join and goes twice."""
    x = keras.Input((6,), name="x")
    a, b = L.Dense(4, name="a")(x), L.Dense(5, name="b")(x)
    return keras.Model(x, L.Dense(3, name="top")(L.Concatenate(name="concat")([a, b, a])))


def broadcast_branch():
    x = keras.Input((6, 5))
    one = L.GlobalMaxPooling1D(keepdims=True, name="pool")(L.Dense(4, name="one")(L.Dense(3, name="narrow")(x)))
    return keras.Model(x, read(L.Add(name="add")([L.Dense(4, name="wide")(x), one])))


def padded():
    """A branch with positions that no layer makes."""
    x = keras.Input((6,))
    narrow = keras.ops.pad(L.Dense(4, name="narrow")(x), ((0, 0), (1, 0)))
    return keras.Model(x, L.Dense(3, name="top")(L.Concatenate()([narrow, L.Dense(2)(x)])))


def joined_by_name():
    """A join whose tensors go by the name of the argument."""
    x = keras.Input((6,))
    return keras.Model(x, L.Dense(3, name="top")(L.Concatenate()(inputs=[L.Dense(5, name=name)(x) for name in "abc"])))


# name -> model, what to delete, layers that must be gone
BRANCHES = {
    "one of three": (inception, {"b": range(4)}, ["b", "b_narrow", "b_norm"]),
    "one of three, at its bottleneck": (inception, {"b_narrow": range(4)}, ["b", "b_narrow", "b_norm"]),
    "the first": (inception, {"a": range(4)}, ["a"]),
    "behind pooling": (inception, {"c": range(4)}, ["c", "c_pool"]),
    "two of three, and the join": (
        inception, {"a": range(4), "b": range(4)}, ["a", "b", "b_narrow", "b_norm", "concat"],
    ),
    "one and a part of another": (inception, {"a": [0, 2], "c": range(4)}, ["c", "c_pool"]),
    "in a nested model": (nested_inception, {"b": range(4)}, ["block/b", "block/b_narrow", "block/b_norm"]),
    "in a nested model, and the join": (
        nested_inception, {"b_narrow": range(4), "c": range(4)}, ["block/b", "block/c", "block/concat"],
    ),
    "a residual branch": (residual, {"narrow_0": range(4)}, ["narrow_0", "relu_0", "wide_0", "norm_0", "add"]),
    "one of two residual branches": (lambda: residual(2), {"narrow_0": range(4)}, ["narrow_0", "wide_0"]),
    "two of two residual branches": (
        lambda: residual(2), {"narrow_0": range(4), "narrow_1": range(4)}, ["wide_0", "wide_1", "add"],
    ),
    "a term of a sum of operators": (summed_by_operators, {"narrow": range(4)}, ["narrow", "wide"]),
    "an item of an operation": (joined_by_operation, {"a": range(5)}, ["a"]),
    "an item by name": (joined_by_name, {"b": range(5)}, ["b"]),
    "an item with padding": (padded, {"narrow": range(4)}, ["narrow"]),
    "channels_first": (channels_first, {"b": range(4)}, ["b"]),
    "channels_first, and the join": (channels_first, {"a": range(4), "c": range(4)}, ["a", "c", "concat"]),
    "the first call of a shared layer": (shared_first, {"narrow": range(4)}, ["narrow", "concat"]),
    "the second call of a shared layer": (shared_second, {"narrow": range(4)}, ["narrow", "concat"]),
    "a nested functional": (lambda: nested_branch(inner_functional()), {"narrow": range(4)}, ["inner", "narrow"]),
    "a nested sequential": (lambda: nested_branch(inner_sequential()), {"one": range(5)}, ["inner", "narrow"]),
    "the first call of a nested functional": (
        lambda: nested_called_twice(inner_functional()), {"narrow": range(4)}, ["narrow", "concat"],
    ),
    "the second call of a nested functional": (
        lambda: nested_called_twice(inner_functional(), False), {"narrow": range(4)}, ["narrow", "concat", "stem"],
    ),
    "the first call of a nested sequential": (
        lambda: nested_called_twice(inner_sequential()), {"narrow": range(4)}, ["narrow", "concat"],
    ),
    "two levels": (two_levels, {"a": range(4), "b": range(5)}, ["a", "b", "low", "between", "high"]),
    "the lower of two levels": (two_levels, {"a": range(4)}, ["a", "low"]),
    "a term that is broadcast to others": (broadcast_branch, {"narrow": range(3)}, ["narrow", "one", "pool", "add"]),
    "an item that stands twice": (same_join_twice, {"a": range(4)}, ["a", "concat"]),
}  # fmt: skip


ONEDNN = {name: NEEDS_CHANNELS_FIRST for name in BRANCHES if "channels_first" in name}


@pytest.mark.parametrize("name", marked(list(BRANCHES), ONEDNN))
def test_a_branch_without_channels_is_removed(name):
    make, dead, gone = BRANCHES[name]
    smaller = check_law(make(), DeleteChannels(dead)).smaller
    assert not set(gone) & set(names(smaller.record))
    assert set(names(smaller.record)) >= set(smaller.weights)


def test_the_optimizer_state_of_a_branch_is_removed():
    model = inception()
    model.compile(keras.optimizers.Adam(0.01), "mse", run_eagerly=True)
    model.train_on_batch(random_inputs(model), np.ones((11, 5)))
    smaller = DeleteChannels({"b": range(4), "c": range(4)})(capture(model))
    again = rebuild(smaller)
    assert capture(again) == smaller
    assert np.isfinite(again.train_on_batch(random_inputs(again), np.ones((11, 5))))


# --- what must not go


def gated():
    x = keras.Input((6,))
    y = L.Dense(5, name="stem")(x)
    gate = L.Dense(5, activation="sigmoid", name="wide")(L.Dense(4, name="narrow")(y))
    return keras.Model(x, L.Dense(3, name="top")(L.Multiply()([y, gate])))


def averaged():
    x = keras.Input((6,))
    y = L.Dense(5, name="stem")(x)
    return keras.Model(
        x, L.Dense(3, name="top")(L.Average()([y, L.Dense(5, name="wide")(L.Dense(4, name="narrow")(y))]))
    )


def chained():
    x = keras.Input((6,))
    return keras.Model(x, L.Dense(3, name="top")(L.Dense(4, name="narrow")(L.Dense(5, name="stem")(x))))


def along_space():
    x = keras.Input((6, 5))
    a, b = L.Conv1D(4, 1, name="a")(x), L.Conv1D(4, 1, name="b")(L.Conv1D(4, 1, name="narrow")(x))
    return keras.Model(x, read(L.Concatenate(axis=1)([a, b])))


def two_outputs():
    x = keras.Input((6,))
    y = L.Dense(5, name="stem")(x)
    return keras.Model(x, [L.Dense(3, name="top")(y), L.Dense(2, name="second")(L.Dense(4, name="narrow")(y))])


def joined_into_the_output():
    x = keras.Input((6,))
    return keras.Model(
        x, L.Concatenate()([L.Dense(3, name="a")(L.Dense(4, name="narrow")(x)), L.Dense(2, name="b")(x)])
    )


def broadcast():
    x = keras.Input((6, 5))
    wide = L.Dense(4, name="wide")(L.Dense(3, name="narrow")(x))
    return keras.Model(x, read(L.Add()([wide, L.GlobalMaxPooling1D(keepdims=True)(L.Dense(4, name="one")(x))])))


REFUSED = {
    "a term that others are broadcast to": (broadcast, {"narrow": range(3)}, NothingLeft),
    "a gate": (gated, {"narrow": range(4)}, NothingLeft),
    "an average, whose divisor would change": (averaged, {"narrow": range(4)}, NothingLeft),
    "the only way": (chained, {"narrow": range(4)}, NothingLeft),
    "all branches": (inception, {"a": range(4), "b": range(4), "c": range(4)}, NothingLeft),
    "steps of a join along space": (along_space, {"narrow": range(4)}, NothingLeft),
    "one of two outputs": (two_outputs, {"narrow": range(4)}, NothingLeft),
    "a part of an output": (joined_into_the_output, {"narrow": range(4)}, PinnedChannels),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_needed_branch_is_not_removed(name):
    make, dead, error = REFUSED[name]
    snapshot = capture(make())
    with pytest.raises(error):
        DeleteChannels(dead)(snapshot)
    assert capture(rebuild(snapshot)) == snapshot


def test_a_part_of_an_output_is_removed_on_request():
    edit = DeleteChannels({"narrow": range(4)}, allow_output_change=True)
    assert rebuild(edit(capture(joined_into_the_output()))).output_shape == (None, 2)


def nested_twice():
    x = keras.Input((5,))
    a, b = L.Dense(4, name="a")(x), L.Dense(4, name="b")(L.Dense(3, name="narrow")(x))
    inner = keras.Model(x, L.Concatenate(name="concat")([a, b]), name="inner")
    z = keras.Input((5,))
    return keras.Model(z, L.Dense(3, name="top")(L.Add()([inner(L.Dense(5)(z)), inner(L.Dense(5)(z))])))


def test_a_branch_is_removed_from_every_call_of_a_nested_model():
    check_law(nested_twice(), DeleteChannels("narrow", range(3)))


def nested_outputs():
    x = keras.Input((5,))
    inner = keras.Model(x, [L.Dense(4, name="a")(x), L.Dense(4, name="b")(L.Dense(3, name="narrow")(x))], name="inner")
    z = keras.Input((5,))
    return keras.Model(z, L.Dense(3, name="top")(L.Concatenate()(inner(L.Dense(5)(z)))))


def test_a_nested_output_that_others_read_is_not_removed():
    with pytest.raises(NothingLeft, match="nested model 'inner'"):
        DeleteChannels("narrow", range(3))(capture(nested_outputs()))


def test_an_unread_nested_output_stays():
    x = keras.Input((5,))
    inner = keras.Model(x, [L.Dense(4, name="read")(x), L.Dense(6, name="unread")(x)], name="inner")
    z = keras.Input((5,))
    one, _ = inner(L.Dense(5)(z))
    y = L.Concatenate()([one, L.Dense(4, name="branch")(z)])
    smaller = check_law(keras.Model(z, L.Dense(3, name="top")(y)), DeleteChannels("branch", range(4))).smaller
    assert "inner/unread" in smaller.weights


def test_a_nested_model_is_removed_with_its_last_reader():
    x = keras.Input((5,))
    inner = keras.Model(x, [L.Dense(4, name="a")(x), L.Dense(6, name="b")(x)], name="inner")
    z = keras.Input((5,))
    a, b = inner(z)
    narrow = L.Dense(4, name="narrow")(L.Concatenate(name="both")([a, b]))
    y = L.Concatenate(name="concat")([narrow, L.Dense(4, name="other")(z)])
    smaller = check_law(keras.Model(z, L.Dense(3, name="top")(y)), DeleteChannels("narrow", range(4))).smaller
    assert set(smaller.weights) == {"other", "top"}
