"""The interface of Keras-surgeon on live models, point by point as its documentation describes it."""

import inspect

import keras
import numpy as np
import pytest
from keras import layers

from helpers.laws import TOLERANCE, VISIBLE, deviation, judge, random_inputs, randomise, sabotage
from kerassurgery_fn import SurgeryError, capture, rebuild
from kerassurgery_fn.errors import (
    ChannelOutOfRange,
    InexactCut,
    NoChannels,
    NotALayer,
    PinnedChannels,
    UnknownLayer,
    UnknownNode,
)
from kerassurgery_fn.operations import delete_channels, delete_layer, insert_layer, replace_layer

pytestmark = pytest.mark.keras

Functional = type(keras.Model(inputs=(_x := keras.Input((1,))), outputs=keras.ops.abs(_x)))


def numbers(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=(4, *shape)).astype("float32")


def outputs(model, data):
    return [keras.ops.convert_to_numpy(one) for one in keras.tree.flatten(model(data, training=False))]


def assert_same(result, expected, data):
    """Two models compute the same, and not something else: with a kernel of the result disturbed they do not."""
    for a, b in zip(outputs(result, data), outputs(expected, data), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5 * np.abs(b).max())
    disturbed = [np.take(w, np.arange(len(w)) - 1, axis=0) if w.ndim > 1 else w for w in result.get_weights()]
    kept = result.get_weights()
    result.set_weights(disturbed)
    assert any(
        np.abs(a - b).max() > 1e-3 * np.abs(b).max()
        for a, b in zip(outputs(result, data), outputs(expected, data), strict=True)
    )
    result.set_weights(kept)


def check_cut(model, layer, channels, **options):
    """Deletes channels of a layer, in a model with random weights, and holds it against the original with zeros."""
    randomise(model)
    inputs, before = random_inputs(model), capture(model)
    result = delete_channels(model, layer, channels, **options)
    after = capture(result)
    assert capture(model) == before
    truth = outputs(revived(judge(before, after)), inputs)
    assert deviation(outputs(result, inputs), truth) < TOLERANCE
    assert deviation(outputs(revived(sabotage(after)), inputs), truth) > VISIBLE
    return result


def revived(snapshot):
    return rebuild(snapshot, custom_objects={"Plain": Plain}, safe_mode=False)


def shapes(model, name):
    return [w.shape for w in model.get_layer(name).get_weights()]


def chain():
    """x -> a (Dense 6) -> b (Dense 6, relu) -> drop -> end (Dense 2)."""
    x = keras.Input((5,), name="x")
    y = layers.Dense(6, name="a")(x)
    y = layers.Dense(6, activation="relu", name="b")(y)
    y = layers.Dropout(0.5, name="drop")(y)
    model = keras.Model(x, layers.Dense(2, name="end")(y), name="chain")
    randomise(model)
    return model


def sequential():
    model = keras.Sequential(name="row")
    model.add(keras.Input((5,), name="x"))
    model.add(layers.Dense(6, name="a"))
    model.add(layers.Dense(6, activation="relu", name="b"))
    model.add(layers.Dense(2, name="end"))
    randomise(model)
    return model


def called(layer, x, copies=None):
    """A copy of a layer with its weights, called on a tensor; the same copy again if it is among `copies`."""
    copies = {} if copies is None else copies
    copy = copies.setdefault(layer.name, type(layer).from_config(layer.get_config()))
    y = copy(x)
    copy.set_weights(layer.get_weights())
    return y


# --- signatures


@pytest.mark.parametrize(
    "function, expected",
    [
        (delete_layer, "(model, layer, *, node_indices=None, copy=True)"),
        (insert_layer, "(model, layer, new_layer, *, node_indices=None, copy=True)"),
        (replace_layer, "(model, layer, new_layer, *, node_indices=None, copy=True)"),
        (delete_channels, "(model, layer, channels, *, node_indices=None, copy=None)"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_signatures(function, expected):
    bare = inspect.signature(function)
    bare = bare.replace(
        parameters=[p.replace(annotation=p.empty) for p in bare.parameters.values()],
        return_annotation=bare.empty,
    )
    assert str(bare) == expected


# --- deleting a layer


@pytest.mark.parametrize("by", ["name", "layer"])
@pytest.mark.parametrize("make", [chain, sequential])
def test_delete_layer(make, by):
    model = make()
    result = delete_layer(model, "b" if by == "name" else model.get_layer("b"))
    x = keras.Input((5,))
    expected = keras.Model(x, called(model.get_layer("end"), called(model.get_layer("a"), x)))
    assert_same(result, expected, numbers(5))
    assert "b" not in [layer.name for layer in result.layers]


def test_delete_first_and_last_layer():
    x = keras.Input((6,))
    model = keras.Model(x, layers.Dense(6, name="c")(layers.Dense(6, name="b")(layers.Dense(6, name="a")(x))))
    randomise(model)
    for gone, left in (("a", "bc"), ("c", "ab")):
        y = x
        for name in left:
            y = called(model.get_layer(name), y)
        assert_same(delete_layer(model, gone), keras.Model(x, y), numbers(6))


def test_deleting_a_layer_that_changes_the_shape_is_refused_with_both_shapes():
    with pytest.raises(SurgeryError, match=r"(?s)6.*5|5.*6"):
        delete_layer(chain(), "a")


def two_calls():
    """A layer called outside of the model, then twice in it, each followed by a layer of its own."""
    dense = layers.Dense(4, name="shared")
    dense(keras.Input((4,)))
    one, two = keras.Input((4,), name="one"), keras.Input((4,), name="two")
    left = layers.Dense(3, name="left")(dense(one))
    right = layers.Dense(3, name="right")(dense(two))
    model = keras.Model([one, two], [left, right], name="pair")
    randomise(model)
    return model


def pair_of(model, one_by, two_by):
    """A model of two inputs that go through copies of layers of another, given by name, and of new layers."""
    one, two = keras.Input((4,), name="one"), keras.Input((4,), name="two")
    ends, copies = [], {}
    for x, names in ((one, one_by), (two, two_by)):
        for name in names:
            x = called(model.get_layer(name) if isinstance(name, str) else name, x, copies)
        ends.append(x)
    return keras.Model([one, two], ends)


def test_delete_selected_calls_of_a_shared_layer():
    model, data = two_calls(), [numbers(4), numbers(4, seed=1)]
    nodes = [len(layer._inbound_nodes) for layer in model.layers]
    cases = {
        (1,): (["left"], ["shared", "right"]),
        (2,): (["shared", "left"], ["right"]),
        (1, 2): (["left"], ["right"]),
    }
    for indices, rows in cases.items():
        result = delete_layer(model, "shared", node_indices=list(indices))
        assert_same(result, pair_of(model, *rows), data)
        assert ("shared" in [layer.name for layer in result.layers]) == (len(indices) == 1)
    assert_same(delete_layer(model, "shared"), pair_of(model, ["left"], ["right"]), data)
    assert_same(delete_layer(model, "shared", node_indices=[]), pair_of(model, ["left"], ["right"]), data)
    assert nodes == [len(layer._inbound_nodes) for layer in model.layers]


@pytest.mark.parametrize(
    "nodes, words",
    [([1, 1], "twice"), ([0], r"\[1, 2\]"), (3, r"\[1, 2\]"), (0.5, "must be integers"), ("b", "must be integers")],
)
@pytest.mark.parametrize(
    "operation",
    [
        delete_layer,
        lambda model, layer, **nodes: insert_layer(model, layer, layers.Dropout(0.5), **nodes),
        lambda model, layer, **nodes: replace_layer(model, layer, layers.Dense(4), **nodes),
        lambda model, layer, **nodes: delete_channels(model, layer, [0], **nodes),
    ],
    ids=["delete_layer", "insert_layer", "replace_layer", "delete_channels"],
)
def test_repeated_and_foreign_nodes_are_refused(operation, nodes, words):
    with pytest.raises(UnknownNode, match=words) as caught:
        operation(two_calls(), "shared", node_indices=nodes)
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize("new_layer", [layers.ReLU, keras.Model, "relu", 7])
def test_new_layers_must_be_layers(new_layer):
    for operation in insert_layer, replace_layer:
        with pytest.raises(NotALayer, match="is not a layer"):
            operation(two_calls(), "shared", new_layer)


# --- inserting and replacing


def built(layer, *shape, seed=5):
    """A layer built for a shape, with random weights."""
    layer.build((None, *shape))
    rng = np.random.default_rng(seed)
    layer.set_weights([rng.normal(size=w.shape).astype("float32") for w in layer.get_weights()])
    return layer


@pytest.mark.parametrize("make", [chain, sequential])
def test_insert_layer_inserts_before_the_layer(make):
    model, new = make(), built(layers.Dense(6, name="new"), 6)
    x = keras.Input((5,))
    y = called(model.get_layer("a"), x)
    expected = keras.Model(x, called(model.get_layer("end"), called(model.get_layer("b"), called(new, y))))
    for layer in ("b", model.get_layer("b")):
        result = insert_layer(model, layer, new)
        assert_same(result, expected, numbers(5))
        assert result.get_layer("new").get_config() == new.get_config()


def test_an_unbuilt_new_layer_is_initialised_and_stays_unbuilt():
    model, new = chain(), layers.Dense(6, name="new")
    result = insert_layer(model, "b", new)
    assert shapes(result, "new") == [(6, 6), (6,)]
    assert result.get_layer("new").get_weights()[0].std() > 0
    assert not new.built
    assert not new._inbound_nodes


def test_inserting_before_one_consumer_does_not_affect_the_others():
    x = keras.Input((5,))
    a = layers.Dense(6, name="a")(x)
    model = keras.Model(x, [layers.Dense(2, name="left")(a), layers.Dense(2, name="right")(a)])
    randomise(model)
    result = insert_layer(model, "left", layers.Lambda(lambda t: 0 * t, name="nothing"))
    data = numbers(5)
    left, right = outputs(result, data)
    np.testing.assert_array_equal(left, np.broadcast_to(model.get_layer("left").get_weights()[1], left.shape))
    np.testing.assert_allclose(right, outputs(model, data)[1], rtol=1e-6)
    assert np.ptp(right, axis=0).min() > 1e-3


def test_insert_before_selected_calls_of_a_shared_layer():
    model, data = two_calls(), [numbers(4), numbers(4, seed=1)]
    new = built(layers.Dense(4, name="new"), 4)
    for indices, rows in (
        ([1], ([new, "shared", "left"], ["shared", "right"])),
        ([2], (["shared", "left"], [new, "shared", "right"])),
        (None, ([new, "shared", "left"], [new, "shared", "right"])),
    ):
        result = insert_layer(model, "shared", new, node_indices=indices)
        assert_same(result, pair_of(model, *rows), data)
        assert len(result.get_layer("shared")._inbound_nodes) == 2


def test_replace_layer():
    model, new = chain(), built(layers.Dense(6, activation="tanh", name="new"), 6)
    result = replace_layer(model, "b", new)
    x = keras.Input((5,))
    y = called(new, called(model.get_layer("a"), x))
    assert_same(result, keras.Model(x, called(model.get_layer("end"), y)), numbers(5))
    assert "b" not in [layer.name for layer in result.layers]


def test_replace_a_layer_by_a_layer_of_the_same_name():
    model, new = chain(), built(layers.Dense(6, activation="tanh", name="b"), 6)
    result = replace_layer(model, model.get_layer("b"), new)
    np.testing.assert_array_equal(result.get_layer("b").get_weights()[0], new.get_weights()[0])
    assert result.get_layer("b").activation is keras.activations.tanh


def test_replace_selected_calls_of_a_shared_layer():
    model, data = two_calls(), [numbers(4), numbers(4, seed=1)]
    new = built(layers.Dense(4, name="new"), 4)
    for indices, rows in (
        ([1], ([new, "left"], ["shared", "right"])),
        ([2], (["shared", "left"], [new, "right"])),
        (None, ([new, "left"], [new, "right"])),
    ):
        assert_same(replace_layer(model, "shared", new, node_indices=indices), pair_of(model, *rows), data)


def test_a_model_can_be_a_new_layer():
    model = chain()
    inner = keras.Sequential([keras.Input((6,)), layers.Dense(6, name="i"), layers.ReLU()], name="inner")
    inner.compile("adam", "mse")
    randomise(inner)
    x = keras.Input((5,))
    y = inner(called(model.get_layer("a"), x))
    for operation, row in ((insert_layer, ["b", "end"]), (replace_layer, ["end"])):
        z = y
        for name in row:
            z = called(model.get_layer(name), z)
        assert_same(operation(model, "b", inner), keras.Model(x, z), numbers(5))


def merging(merge):
    x = keras.Input((5,))
    pair = [layers.Dense(4, name="a")(x), layers.Dense(4, name="b")(x)]
    model = keras.Model(x, layers.Dense(2, name="end")(merge(pair)))
    randomise(model)
    return model


@pytest.mark.parametrize("merge", [layers.Add(name="m"), layers.Concatenate(name="m"), layers.Multiply(name="m")])
def test_a_merge_layer_can_be_replaced_but_not_deleted(merge):
    model = merging(merge)
    with pytest.raises(SurgeryError, match="'m'"):
        delete_layer(model, "m")
    with pytest.raises(SurgeryError, match="'m'"):
        insert_layer(model, "m", layers.Dropout(0.5))
    if not isinstance(merge, layers.Concatenate):
        result = replace_layer(model, "m", layers.Subtract(name="minus"))
        x = keras.Input((5,))
        y = layers.Subtract()([called(model.get_layer(name), x) for name in "ab"])
        assert_same(result, keras.Model(x, called(model.get_layer("end"), y)), numbers(5))


@pytest.mark.parametrize("operation", [insert_layer, replace_layer])
def test_new_layers_that_do_not_fit_are_refused(operation):
    with pytest.raises(SurgeryError, match="7"):
        operation(chain(), "b", layers.Dense(7, name="new"))
    with pytest.raises(SurgeryError):
        operation(chain(), "b", built(layers.Dense(6, name="new"), 9))


# --- what comes out

OPERATIONS = {
    "delete_layer": lambda model, **options: delete_layer(model, "b", **options),
    "insert_layer": lambda model, **options: insert_layer(model, "b", layers.ReLU(name="new"), **options),
    "replace_layer": lambda model, **options: replace_layer(model, "b", layers.ReLU(name="new"), **options),
    "delete_channels": lambda model, **options: delete_channels(model, "b", [0], **options),
}
each_operation = pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS.keys())


@each_operation
@pytest.mark.parametrize("make", [chain, sequential])
def test_the_result_is_a_functional_model_of_the_same_name_that_is_not_compiled(operation, make):
    model = make()
    model.compile("adam", "mse", run_eagerly=True)
    model.fit(numbers(5), numbers(2), verbose=0)
    result = operation(model)
    assert type(result) is Functional
    assert result.name == model.name
    assert not result.compiled
    result.compile("adam", "mse", run_eagerly=True)
    result.fit(numbers(5), numbers(2), verbose=0)


@each_operation
def test_names_configs_and_uncut_weights_are_kept(operation):
    model = chain()
    result = operation(model)
    for name in ("x", "a", "drop"):
        assert result.get_layer(name).get_config() == model.get_layer(name).get_config()
    for ours, theirs in zip(result.get_layer("a").get_weights(), model.get_layer("a").get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@each_operation
@pytest.mark.parametrize("copy", [True, False, None])
def test_operations_do_not_change_their_arguments(operation, copy):
    model = chain()
    model.compile("adam", "mse", run_eagerly=True)
    model.fit(numbers(5), numbers(2), verbose=0)
    before, nodes = capture(model), [len(layer._inbound_nodes) for layer in model.layers]
    result = operation(model, copy=copy)
    assert capture(model) == before
    assert [len(layer._inbound_nodes) for layer in model.layers] == nodes
    assert not {id(layer) for layer in model.layers} & {id(layer) for layer in result.layers}
    result.set_weights([0 * w for w in result.get_weights()])
    assert capture(model) == before


STRUCTURES = {
    "tensors": lambda x, y: (x, y),
    "lists": lambda x, y: ([x], [y]),
    "tensor to list": lambda x, y: (x, [y]),
    "dicts": lambda x, y: ({"x": x}, {"out": y}),
    "two": lambda x, y: ([x, keras.Input((3,), name="other")], [y, y]),
}


@each_operation
@pytest.mark.parametrize("structure", STRUCTURES.values(), ids=STRUCTURES.keys())
def test_the_structure_of_inputs_and_outputs_stays(operation, structure):
    inner = chain()
    given, made = structure(inner.input, inner.output)
    model = keras.Model(given, made)
    result = operation(model)
    for ours, theirs in ((result.input, model.input), (result.output, model.output)):
        keras.tree.assert_same_structure(ours, theirs)
    assert (result._inputs_struct is result.inputs[0]) == (given is inner.input)
    data = keras.tree.map_structure(lambda tensor: numbers(*tensor.shape[1:]), given)
    keras.tree.assert_same_structure(result(data), model(data))


# --- deleting channels


def test_delete_channels():
    model = chain()
    result = delete_channels(model, "a", [0, 4])
    kept = [1, 2, 3, 5]
    (kernel, bias), (reader, _) = model.get_layer("a").get_weights(), model.get_layer("b").get_weights()
    np.testing.assert_array_equal(result.get_layer("a").get_weights()[0], kernel[:, kept])
    np.testing.assert_array_equal(result.get_layer("a").get_weights()[1], bias[kept])
    np.testing.assert_array_equal(result.get_layer("b").get_weights()[0], reader[kept])
    assert result.get_layer("a").units == 4
    assert result.get_layer("a").name == "a"


@pytest.mark.parametrize(
    "channels, kept",
    [
        ([-1], [0, 1, 2, 3, 4]),
        ([0, -6, 0], [1, 2, 3, 4, 5]),
        ((1,), [0, 2, 3, 4, 5]),
        (np.array([2, 1]), [0, 3, 4, 5]),
        ([True, False, False, True, False, False], [1, 2, 4, 5]),
        (np.arange(6) < 3, [3, 4, 5]),
        (range(4), [4, 5]),
        ([], [0, 1, 2, 3, 4, 5]),
        (np.array([]), [0, 1, 2, 3, 4, 5]),
    ],
    ids=["negative", "twice", "tuple", "array", "mask", "mask array", "range", "none", "empty array"],
)
def test_channels_in_every_form_of_a_numpy_index(channels, kept):
    model = chain()
    result = delete_channels(model, "a", channels)
    np.testing.assert_array_equal(result.get_layer("a").get_weights()[1], model.get_layer("a").get_weights()[1][kept])


@pytest.mark.parametrize("channels", [[6], [-7], [0.5], ["a"]])
def test_channels_out_of_range_are_refused(channels):
    with pytest.raises(ChannelOutOfRange):
        delete_channels(chain(), "a", channels)


def test_unknown_layers_and_layers_without_channels_are_refused():
    with pytest.raises(UnknownLayer):
        delete_channels(chain(), "nowhere", [0])
    with pytest.raises(UnknownLayer):
        delete_channels(chain(), layers.Dense(3, name="foreign"), [0])
    with pytest.raises(NoChannels, match="drop"):
        delete_channels(chain(), "drop", [0])
    with pytest.raises(SurgeryError, match="subclassed"):
        delete_channels(keras.Model(), "a", [0])


def test_channels_of_the_last_layer_can_be_deleted():
    model, data = chain(), numbers(5)
    result = delete_channels(model, "end", [0])
    np.testing.assert_allclose(outputs(result, data)[0], outputs(model, data)[0][:, 1:], rtol=1e-5)


def test_channels_deleted_on_all_nodes_keep_the_layer_shared():
    model, data = two_calls(), [numbers(4), numbers(4, seed=1)]
    for nodes in (None, [1, 2], [2, 1]):
        result = delete_channels(model, "shared", [0, 2], node_indices=nodes)
        assert len(result.get_layer("shared")._inbound_nodes) == 2
        assert shapes(result, "shared") == [(4, 2), (2,)]
        assert shapes(result, "left") == shapes(result, "right") == [(2, 3), (3,)]
    truth = outputs(rebuild(judge(capture(model), capture(result))), data)
    assert deviation(outputs(result, data), truth) < TOLERANCE


def test_channels_deleted_on_some_nodes_give_these_a_separate_layer():
    model, data = two_calls(), [numbers(4), numbers(4, seed=1)]
    result = delete_channels(model, "shared", [0, 2], node_indices=[2])
    assert shapes(result, "shared") == [(4, 4), (4,)]
    assert shapes(result, "shared_delete_channels") == [(4, 2), (2,)]
    assert shapes(result, "left") == [(4, 3), (3,)]
    assert shapes(result, "right") == [(2, 3), (3,)]
    kernel, bias = model.get_layer("shared").get_weights()
    np.testing.assert_array_equal(result.get_layer("shared_delete_channels").get_weights()[0], kernel[:, [1, 3]])
    left, right = outputs(result, data)
    np.testing.assert_allclose(left, outputs(model, data)[0], rtol=1e-5)
    dead = kernel.copy()
    dead[:, [0, 2]] = 0
    model.get_layer("shared").set_weights([dead, bias * [0, 1, 0, 1]])
    np.testing.assert_allclose(right, outputs(model, data)[1], rtol=1e-5)


def test_deleting_no_channels_of_some_nodes_changes_nothing():
    result = delete_channels(two_calls(), "shared", [], node_indices=[2])
    assert "shared_delete_channels" not in [layer.name for layer in result.layers]


def test_a_branch_without_channels_is_removed_with_a_merge_of_one_input():
    x = keras.Input((5,))
    b = layers.Dense(4, name="b")(x)
    a = layers.ReLU(name="relu")(layers.Dense(3, name="a_2")(layers.Dense(3, name="a")(x)))
    model = keras.Model(x, layers.Dense(2, name="end")(layers.Concatenate(name="join")([a, b])))
    result = check_cut(model, "a", [0, 1, 2])
    assert [layer.name for layer in result.layers[1:]] == ["b", "end"]
    assert shapes(result, "end") == [(4, 2), (2,)]


def test_a_merge_of_three_inputs_keeps_two():
    x = keras.Input((5,))
    branches = [layers.Dense(3, name=name)(x) for name in "abc"]
    model = keras.Model(x, layers.Dense(2, name="end")(layers.Concatenate(name="join")(branches)))
    result = check_cut(model, "b", range(3))
    assert shapes(result, "end") == [(6, 2), (2,)]
    assert len(result.get_layer("join").input) == 2


def test_a_deletion_that_leaves_no_path_to_the_output_is_refused():
    with pytest.raises(SurgeryError, match="end"):
        delete_channels(chain(), "a", range(6))


# --- what Keras-surgeon gets silently wrong


def test_call_arguments_of_unchanged_layers_are_kept():
    x = keras.Input((6, 5))
    words, *state = layers.LSTM(4, return_sequences=True, return_state=True, name="first")(x)
    words = layers.LSTM(4, return_sequences=True, name="second")(words, initial_state=state)
    words = layers.Dropout(0.5, seed=1, name="drop")(words, training=True)
    total = keras.ops.sum(words, axis=1)
    model = keras.Model(x, layers.Dense(2, name="end")(layers.Dense(3, name="a")(total)))
    randomise(model)
    data, off = numbers(6, 5), []
    for result in (delete_channels(model, "a", [0]), insert_layer(model, "a", layers.ReLU())):
        record = {layer["name"]: layer for layer in capture(result).record["config"]["layers"]}
        assert record["drop"]["inbound_nodes"][0]["kwargs"] == {"training": True}
        assert len(record["second"]["inbound_nodes"][0]["kwargs"]["initial_state"]) == 2
        assert record[total._keras_history.operation.name]["inbound_nodes"][0]["args"][0]
        off.append(keras.ops.convert_to_numpy(result(data)))
        assert np.abs(off[-1] - keras.ops.convert_to_numpy(result(data))).max() > 0


def test_masks_are_passed_on():
    x = keras.Input((None,), dtype="int32")
    words = layers.Embedding(7, 4, mask_zero=True, name="words")(x)
    y = layers.LSTM(5, name="read")(layers.Dense(4, name="a")(words))
    model = keras.Model(x, layers.Dense(2, name="end")(y))
    randomise(model)
    data = np.array([[1, 2, 3, 0, 0, 0]], "int32")
    same = np.array([[1, 2, 3]], "int32")
    result = delete_channels(model, "a", [1])
    np.testing.assert_allclose(outputs(result, data)[0], outputs(result, same)[0], rtol=1e-4)
    check_cut(model, "a", [1])


@pytest.mark.parametrize("merge", [layers.Add, layers.Multiply, layers.Average, layers.Maximum, layers.Minimum])
def test_inputs_of_a_merge_are_cut_together(merge):
    model = merging(merge(name="m"))
    result = check_cut(model, "a", [1])
    assert result.get_layer("a").units == result.get_layer("b").units == 3


def test_a_branch_cut_to_one_channel_does_not_broadcast():
    model = merging(layers.Add(name="m"))
    result = check_cut(model, "a", [0, 1, 2])
    assert result.get_layer("b").units == 1
    np.testing.assert_array_equal(result.get_layer("b").get_weights()[1], model.get_layer("b").get_weights()[1][[3]])


@pytest.mark.parametrize("merge", [layers.Multiply, layers.Average])
def test_the_first_branch_of_a_product_or_mean_cannot_be_removed(merge):
    with pytest.raises(SurgeryError):
        delete_channels(merging(merge(name="m")), "a", range(4))


@pytest.mark.onednn
def test_flatten_of_channels_first():
    x = keras.Input((3, 4, 5))
    y = layers.Permute((3, 1, 2))(layers.Dense(6, name="a")(x))
    model = keras.Model(x, layers.Dense(2, name="end")(layers.Flatten(data_format="channels_first")(y)))
    assert shapes(check_cut(model, "a", [1, 3]), "end") == [(4 * 3 * 4, 2), (2,)]


# --- what raises in Keras-surgeon


@keras.saving.register_keras_serializable("tests")
class Registered(layers.Dense):
    """Computes as Dense."""


class Plain(layers.Dense):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.note = "nothing of what is computed"


class Doubling(layers.Dense):
    def call(self, x):
        return 2 * super().call(x)


def image(*stack):
    """A model of layers one after the other on images of 6 x 6, with a Dense at the end."""
    return keras.Sequential([keras.Input((6, 6, 3)), *stack, layers.Flatten(), layers.Dense(2, name="end")])


def words(*stack):
    return keras.Sequential([keras.Input((6, 5)), *stack, layers.Flatten(), layers.Dense(2, name="end")])


def conv(name="a", filters=4, **options):
    return layers.Conv2D(filters, 1, name=name, **options)


def squeeze_and_excite():
    x = keras.Input((6, 6, 3))
    a = conv()(x)
    squeezed = layers.GlobalAveragePooling2D(keepdims=True)(a)
    gate = conv("up", 4, activation="sigmoid")(conv("down", 2, activation="relu")(squeezed))
    return keras.Model(x, conv("end", 2)(layers.Multiply()([a, gate])))


def attention():
    x = keras.Input((6, 8))
    a = layers.Dense(8, name="a")(x)
    return keras.Model(x, layers.Dense(2, name="end")(layers.MultiHeadAttention(2, 4, name="att")(a, a)))


def dot():
    x = keras.Input((6, 5))
    pair = [layers.Dense(4, name="a")(x), layers.Dense(4, name="b")(x)]
    return keras.Model(x, layers.Dense(2, name="end")(layers.Dot(axes=2)(pair)))


def operators():
    x = keras.Input((5,))
    a, b = layers.Dense(4, name="a")(x), layers.Dense(4, name="b")(x)
    return keras.Model(x, layers.Dense(2, name="end")((a + b) * 2 - a * np.arange(4, dtype="float32")))


def states():
    x = keras.Input((6, 5))
    y, h, c = layers.LSTM(4, return_state=True, return_sequences=True, name="a")(x)
    ends = [layers.Flatten()(y), h, c]
    return keras.Model(x, layers.Dense(2, name="end")(layers.Concatenate()(ends)))


def nested():
    inner = keras.Sequential([keras.Input((6, 6, 3)), conv(), conv("b")], name="inner")
    x = keras.Input((6, 6, 3))
    return keras.Model(x, conv("end", 2)(inner(x)))


def any_size():
    return keras.Sequential([keras.Input((None, None, 3)), conv(), layers.MaxPooling2D(), conv("end", 2)])


def beside_a_lambda():
    x = keras.Input((5,))
    a = layers.Dense(4, name="a")(x)
    twice = layers.Lambda(lambda t: 2 * t, name="twice")(layers.Dense(3, name="held")(x))
    return keras.Model(x, layers.Dense(2, name="end")(layers.Concatenate()([a, twice])))


def embedding():
    x = keras.Input((6,), dtype="int32")
    return keras.Model(x, layers.Dense(2, name="end")(layers.LSTM(3)(layers.Embedding(7, 4, name="a")(x))))


def residual():
    x = keras.Input((6, 6, 3))
    a = conv()(x)
    b = conv("b")(layers.ReLU()(conv("inner", 5)(a)))
    return keras.Model(x, conv("end", 2)(layers.ReLU()(layers.Add()([a, b]))))


def shared_reader():
    """Two branches that one layer reads."""
    x = keras.Input((5,))
    reader = layers.Dense(3, name="reader")
    ends = [reader(layers.Dense(4, name=name)(x)) for name in "ab"]
    return keras.Model(x, layers.Dense(2, name="end")(layers.Concatenate()(ends)))


def u_net():
    x = keras.Input((8, 8, 3))
    a = conv()(x)
    y = layers.Conv2DTranspose(4, 2, strides=2, name="up")(conv("deep")(layers.MaxPooling2D()(a)))
    return keras.Model(x, conv("end", 2)(layers.Concatenate()([a, y])))


def mobile():
    return image(conv(), layers.DepthwiseConv2D(3), layers.BatchNormalization(), layers.ReLU(6.0), conv("b"))


MODELS = {
    "Dense on sequences": lambda: words(layers.Dense(4, name="a")),
    "Dense on images": lambda: image(layers.Dense(4, name="a"), layers.Dense(3)),
    "Reshape with sizes": lambda: image(conv(), layers.Reshape((36, 4)), layers.Dense(3)),
    "pooling to one pixel": lambda: keras.Sequential(
        [keras.Input((6, 6, 3)), conv(), layers.MaxPooling2D(6), layers.Dense(2, name="end")]
    ),
    "pooling that keeps dimensions": lambda: image(conv(), layers.GlobalMaxPooling2D(keepdims=True), conv("b")),
    "Permute that moves channels": lambda: image(conv(), layers.Permute((3, 1, 2)), layers.Flatten(), layers.Dense(3)),
    "BatchNormalization on another axis": lambda: image(
        conv(), layers.Permute((3, 1, 2)), layers.BatchNormalization(axis=1), layers.Permute((2, 3, 1)), conv("b")
    ),
    "Bidirectional": lambda: words(layers.Dense(4, name="a"), layers.Bidirectional(layers.LSTM(3))),
    "of Bidirectional": lambda: words(layers.Bidirectional(layers.LSTM(4, return_sequences=True), name="a")),
    "TimeDistributed": lambda: words(layers.Dense(4, name="a"), layers.TimeDistributed(layers.Dense(3))),
    "of TimeDistributed": lambda: words(layers.TimeDistributed(layers.Dense(4), name="a")),
    "Subtract": lambda: merging(layers.Subtract(name="m")),
    "PReLU": lambda: image(conv(), layers.PReLU(), conv("b")),
    "Softmax over space": lambda: image(conv(), layers.Softmax(axis=1), conv("b")),
    "Depthwise": mobile,
    "Separable": lambda: image(conv(), layers.SeparableConv2D(4, 3)),
    "of Separable": lambda: image(layers.SeparableConv2D(4, 3, name="a")),
    "Transpose": lambda: image(conv(), layers.Conv2DTranspose(3, 2)),
    "of Transpose": lambda: image(layers.Conv2DTranspose(4, 2, name="a")),
    "of ConvLSTM": lambda: keras.Sequential(
        [keras.Input((3, 6, 6, 2)), layers.ConvLSTM2D(4, 2, name="a"), layers.Flatten(), layers.Dense(2, name="end")]
    ),
    "of Embedding": embedding,
    "any size": any_size,
    "squeeze and excite": squeeze_and_excite,
    "attention": attention,
    "Dot": dot,
    "operators": operators,
    "several outputs": states,
    "nested model": nested,
    "beside a Lambda": beside_a_lambda,
    "residual": residual,
    "a reader of two branches": shared_reader,
    "U-Net": u_net,
    "a registered class": lambda: words(Registered(4, name="a")),
    "a class of one's own": lambda: words(Plain(4, name="a")),
}


@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS.keys())
def test_a_cut_model_computes_the_same_as_the_original_with_zeros(make):
    model = make()
    result = check_cut(model, "a", [1, 2])
    assert result.count_params() < model.count_params()


def test_the_target_shape_of_a_reshape_is_cut():
    assert check_cut(MODELS["Reshape with sizes"](), "a", [0]).get_layer(index=2).target_shape == (36, 3)


def test_a_dense_layer_reshaped_to_an_image_loses_whole_image_channels():
    image = [layers.Dense(12, name="a"), layers.Reshape((2, 1, 6)), conv("b"), layers.Flatten(), layers.Dense(2)]
    model = keras.Sequential([keras.Input((5,)), *image])
    result = check_cut(model, "a", [1, 7, 2, 8])
    assert result.get_layer("b").input.shape == (None, 2, 1, 4)
    with pytest.raises(SurgeryError, match=r"\[1, 7\]"):
        delete_channels(model, "a", [1])


def test_two_branches_with_one_consumer_lose_the_union_of_channels():
    model = shared_reader()
    result = delete_channels(delete_channels(model, "a", [0]), "b", [2])
    assert result.get_layer("a").units == result.get_layer("b").units == 2


def test_groups_of_a_convolution_keep_equal_sizes():
    model = image(conv("a", 6), conv("grouped", 6, groups=3))
    result = check_cut(model, "a", [0, 2, 4])
    assert result.get_layer("grouped").groups == 3
    assert shapes(result, "a")[0][-1] == 3
    with pytest.raises(SurgeryError, match=r"\[0, 2, 4\]"):
        delete_channels(model, "a", [0])


@pytest.mark.parametrize(
    "layer",
    [layers.Softmax(name="s"), layers.LayerNormalization(name="s"), layers.Dense(3, activation="softmax", name="s")],
)
def test_inexact_cuts_give_a_warning(layer):
    stack = [layer] if isinstance(layer, layers.Dense) else [layers.Dense(3, name="a"), layer]
    model = words(*stack)
    with pytest.warns(InexactCut, match="'s'") as caught:
        result = delete_channels(model, model.layers[0].name, [1])
    assert caught[0].filename == __file__
    assert shapes(result, "end") == [(12, 2), (2,)]


def test_exact_cuts_give_no_warning(recwarn):
    delete_channels(chain(), "a", [1])
    assert not [one for one in recwarn if one.category is InexactCut]


def test_channels_read_by_a_lambda_cannot_be_deleted():
    with pytest.raises(PinnedChannels, match=r"twice.*Lambda"):
        delete_channels(beside_a_lambda(), "held", [0])


def test_a_subclass_that_overrides_call_does_not_get_the_rule_of_its_base_class():
    model = words(Doubling(4, name="a"))
    with pytest.raises(SurgeryError, match="Doubling"):
        delete_channels(model, "a", [0])
    result = insert_layer(model, "a", layers.ReLU(name="new"))
    assert type(result.get_layer("a")) is Doubling


def test_functions_and_classes_of_the_user_are_revived():
    def steep(x):
        return keras.ops.relu(x) * 3

    class Noisy(keras.constraints.Constraint):
        def __call__(self, w):
            return w

    dense = layers.Dense(4, activation=steep, kernel_constraint=Noisy(), name="s")
    model = words(dense, layers.Dense(3, name="a"))
    result = delete_channels(model, "a", [0])
    assert result.get_layer("s").activation is steep
    assert type(result.get_layer("s").kernel_constraint) is Noisy


@pytest.mark.exhaustive
def test_every_convolution_of_a_mobile_net_can_be_cut():
    model = keras.applications.MobileNetV2((32, 32, 3), alpha=0.35, weights=None, classes=5)
    randomise(model)
    data = random_inputs(model)
    names = [layer.name for layer in model.layers if type(layer) is layers.Conv2D]
    assert len(names) == 35
    for name in names:
        result = delete_channels(model, name, [0, 3])
        truth = outputs(rebuild(judge(capture(model), capture(result))), data)
        assert deviation(outputs(result, data), truth) < 1e-4, name


def test_a_mask_of_another_length_is_refused():
    x = keras.Input((4,))
    model = keras.Model(x, layers.Dense(2)(layers.Dense(3, name="d")(x)))
    with pytest.raises(ChannelOutOfRange, match="'d' has 3 channels, and the mask is for 2"):
        delete_channels(model, "d", [True, False])
