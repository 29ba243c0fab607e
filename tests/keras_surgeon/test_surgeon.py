"""`Surgeon`: several jobs on a live model, and the code of Keras-surgeon's README."""

import inspect
import itertools

import keras
import numpy as np
import pytest
from keras import layers

from helpers.laws import TOLERANCE, deviation, judge, random_inputs, randomise
from kerassurgery_fn import Surgeon, SurgeryError, capture, rebuild
from kerassurgery_fn.errors import TakenNode, UnknownJob, UnknownLayer, UnknownNode
from kerassurgery_fn.operations import delete_channels, delete_layer, insert_layer, replace_layer

pytestmark = pytest.mark.keras


def numbers(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=(4, *shape)).astype("float32")


def outputs(model, data):
    return [keras.ops.convert_to_numpy(one) for one in keras.tree.flatten(model(data, training=False))]


def chain():
    """x -> a (6) -> b (6) -> c (6) -> d (6) -> end (2), all Dense."""
    x = y = keras.Input((5,), name="x")
    for name in "abcd":
        y = layers.Dense(6, activation="relu", name=name)(y)
    model = keras.Model(x, layers.Dense(2, name="end")(y), name="chain")
    randomise(model)
    return model


def done(model, *jobs):
    surgeon = Surgeon(model)
    for job, layer, given in jobs:
        surgeon.add_job(job, layer, **given)
    return surgeon.operate()


# --- the interface


def test_signatures():
    def bare(function):
        signature = inspect.signature(function)
        parameters = [
            p.replace(annotation=p.empty) for p in signature.parameters.values() if p.kind != p.VAR_POSITIONAL
        ]
        return str(signature.replace(parameters=parameters, return_annotation=inspect.Signature.empty))

    assert bare(Surgeon) == "(model, copy=None)"
    assert bare(Surgeon.add_job) == "(self, job, layer, *, channels=None, new_layer=None, node_indices=None)"
    assert bare(Surgeon.operate) == "(self)"
    assert set(Surgeon(chain()).valid_jobs) == {"delete_layer", "insert_layer", "replace_layer", "delete_channels"}


def new_layer():
    return layers.LayerNormalization(name="new")


@pytest.mark.parametrize(
    "job, given, operation",
    [
        ("delete_layer", {}, delete_layer),
        ("insert_layer", {"new_layer": new_layer()}, insert_layer),
        ("replace_layer", {"new_layer": new_layer()}, replace_layer),
        ("delete_channels", {"channels": [1, 3]}, delete_channels),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_single_job_equals_the_operation_of_its_name(job, given, operation):
    model = chain()
    result = done(model, (job, "b", given))
    assert capture(result) == capture(operation(model, "b", *given.values()))
    assert capture(result) != capture(rebuild(capture(model)))


def test_a_surgeon_without_jobs_returns_a_copy():
    model, data = chain(), numbers(5)
    result = Surgeon(model).operate()
    assert capture(result) == capture(model)
    assert result is not model
    np.testing.assert_array_equal(outputs(result, data)[0], outputs(model, data)[0])


# --- several jobs


def several():
    return [
        ("delete_layer", "b", {}),
        ("insert_layer", "end", {"new_layer": layers.ReLU(name="new")}),
        ("delete_channels", "a", {"channels": [0, -1]}),
        ("delete_channels", "d", {"channels": [2]}),
        ("replace_layer", "c", {"new_layer": layers.Dense(6, kernel_initializer="identity", name="other")}),
    ]


def test_jobs_refer_to_the_original_in_any_order():
    model = chain()
    results = [done(model, *jobs) for jobs in itertools.islice(itertools.permutations(several()), 0, 120, 17)]
    first = capture(results[0])
    assert all(capture(result) == first for result in results[1:])
    names = [layer.name for layer in results[0].layers]
    assert names == ["x", "a", "other", "d", "new", "end"]
    assert [results[0].get_layer(name).units for name in ("a", "other", "d")] == [4, 6, 5]


def test_deleted_channels_are_cut_in_inserted_and_replaced_layers():
    model, data = chain(), numbers(5)
    built = layers.BatchNormalization(name="norm")
    built.build((None, 6))
    statistics = [np.random.default_rng(0).uniform(0.5, 1.5, 6).astype("float32") for _ in range(4)]
    built.set_weights(statistics)
    result = done(
        model,
        ("insert_layer", "c", {"new_layer": built}),
        ("delete_layer", "b", {}),
        ("delete_channels", "a", {"channels": [1, 4]}),
    )
    kept = [0, 2, 3, 5]
    for ours, theirs in zip(result.get_layer("norm").get_weights(), statistics, strict=True):
        np.testing.assert_array_equal(ours, theirs[kept])
    np.testing.assert_array_equal(result.get_layer("c").get_weights()[0], model.get_layer("c").get_weights()[0][kept])
    whole = done(model, ("insert_layer", "c", {"new_layer": built}), ("delete_layer", "b", {}))
    dead = [w.copy() for w in whole.get_layer("c").get_weights()]
    dead[0][[1, 4]] = 0
    whole.get_layer("c").set_weights(dead)
    np.testing.assert_allclose(outputs(result, data)[0], outputs(whole, data)[0], rtol=1e-4)


def convolutions():
    x = keras.Input((8, 8, 3))
    a = layers.Conv2D(6, 3, padding="same", name="a")(x)
    b = layers.Conv2D(6, 3, padding="same", name="b")(layers.ReLU()(a))
    y = layers.Concatenate()([layers.Add()([a, b]), layers.Conv2D(5, 1, name="c")(x)])
    y = layers.Conv2D(7, 3, name="d")(layers.BatchNormalization()(y))
    model = keras.Model(x, layers.Dense(2, name="end")(layers.Flatten()(y)))
    randomise(model)
    return model


def test_tied_layers_lose_the_union_of_the_channels_of_all_jobs():
    model = convolutions()
    channels = {"a": [0], "b": [2, 3], "c": [4], "d": [0, 6]}
    result = done(model, *(("delete_channels", name, {"channels": some}) for name, some in channels.items()))
    assert [result.get_layer(name).filters for name in "abcd"] == [3, 3, 4, 5]
    data = random_inputs(model)
    truth = outputs(rebuild(judge(capture(model), capture(result))), data)
    assert deviation(outputs(result, data), truth) < TOLERANCE
    kernel = model.get_layer("a").get_weights()[0]
    np.testing.assert_array_equal(result.get_layer("a").get_weights()[0], kernel[..., [1, 4, 5]])


# --- several jobs at one layer


def three_calls():
    """A layer called outside of the model, then three times in it, each followed by a layer of its own."""
    shared = layers.Dense(4, name="shared")
    shared(keras.Input((4,)))
    inputs = [keras.Input((4,), name=name) for name in "uvw"]
    ends = [layers.Dense(3, name=f"end_{x.name}")(shared(x)) for x in inputs]
    model = keras.Model(inputs, ends)
    randomise(model)
    return model


def rows_of(model, *rows):
    """What three rows of layers make of three inputs, by numpy; a layer is a name, or channels that are zero."""
    made = []
    for seed, row in enumerate(rows):
        x = numbers(4, seed=seed)
        for step in row:
            if isinstance(step, str):
                kernel, bias = model.get_layer(step).get_weights()
                x = x @ kernel + bias
            elif callable(step):
                x = step(x)
            else:
                x = x * ~np.isin(np.arange(4), step)
        made.append(x)
    return made


def assert_rows(result, expected):
    found = outputs(result, [numbers(4, seed=seed) for seed in range(3)])
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


def relu(x):
    return np.maximum(x, 0)


DELETE = ("delete_layer", {}, list)
INSERT = ("insert_layer", {"new_layer": layers.ReLU(name="inserted")}, lambda: [relu, "shared"])
REPLACE = ("replace_layer", {"new_layer": layers.ReLU(name="replacing")}, lambda: [relu])
CUT = ("delete_channels", {"channels": [0, 2]}, lambda: ["shared", [0, 2]])


@pytest.mark.parametrize(
    "jobs",
    list(itertools.permutations([DELETE, INSERT, REPLACE, CUT], 3)),
    ids=lambda jobs: "-".join(job[0] for job in jobs),
)
def test_every_node_of_a_layer_can_have_a_different_job(jobs):
    model = three_calls()
    surgeon = Surgeon(model)
    for i in (2, 0, 1):
        surgeon.add_job(jobs[i][0], "shared", node_indices=[1 + i], **jobs[i][1])
    assert_rows(
        surgeon.operate(), rows_of(model, *([*job[2](), f"end_{x}"] for x, job in zip("uvw", jobs, strict=True)))
    )


def test_nodes_without_a_job_are_unchanged():
    model = three_calls()
    surgeon = Surgeon(model)
    surgeon.add_job("delete_channels", model.get_layer("shared"), channels=[1], node_indices=[2])
    result = surgeon.operate()
    assert_rows(result, rows_of(model, ["shared", "end_u"], ["shared", [1], "end_v"], ["shared", "end_w"]))
    assert result.get_layer("shared_delete_channels").units == 3
    assert result.get_layer("shared").units == 4


def test_only_nodes_that_lose_the_same_channels_keep_sharing_a_layer():
    model = three_calls()
    same = Surgeon(model)
    same.add_job("delete_channels", "shared", channels=[1], node_indices=[1])
    same.add_job("delete_channels", "shared", channels=[1, 1], node_indices=[3])
    result = same.operate()
    assert len(result.get_layer("shared_delete_channels")._inbound_nodes) == 2
    assert_rows(result, rows_of(model, ["shared", [1], "end_u"], ["shared", "end_v"], ["shared", [1], "end_w"]))
    different = Surgeon(model)
    different.add_job("delete_channels", "shared", channels=[1], node_indices=[1, 2])
    different.add_job("delete_channels", "shared", channels=[0, 2], node_indices=[3])
    result = different.operate()
    assert_rows(result, rows_of(model, ["shared", [1], "end_u"], ["shared", [1], "end_v"], ["shared", [0, 2], "end_w"]))
    assert result.get_layer("shared_delete_channels").units == 3
    assert result.get_layer("shared_delete_channels_1").units == 2


@pytest.mark.parametrize("first, second", [([1], [1]), ([1, 2], [2, 3]), (None, [1]), ([3], None)])
def test_two_jobs_for_one_node_are_refused(first, second):
    surgeon = Surgeon(three_calls())
    surgeon.add_job("delete_channels", "shared", channels=[0], node_indices=first)
    with pytest.raises(TakenNode, match="'shared'") as caught:
        surgeon.add_job("delete_layer", "shared", node_indices=second)
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize("nodes", [[1, 1], [0], [4]])
def test_repeated_and_foreign_nodes_are_refused(nodes):
    with pytest.raises(UnknownNode):
        Surgeon(three_calls()).add_job("delete_layer", "shared", node_indices=nodes)


# --- refusals, and what is left as it was


def test_unknown_and_incomplete_jobs_are_refused():
    surgeon = Surgeon(chain())
    with pytest.raises(UnknownJob, match=r"'paint'.*delete_layer, insert_layer, replace_layer, delete_channels"):
        surgeon.add_job("paint", "a")
    with pytest.raises(UnknownJob, match=r"\['delete_layer'\] is not a job"):
        surgeon.add_job(["delete_layer"], "a")
    with pytest.raises(UnknownJob, match="channels="):
        surgeon.add_job("delete_channels", "a")
    for job in ("insert_layer", "replace_layer"):
        with pytest.raises(UnknownJob, match="new_layer="):
            surgeon.add_job(job, "a")
    with pytest.raises(UnknownLayer):
        surgeon.add_job("delete_layer", "nowhere")
    with pytest.raises(UnknownJob, match="2 layers"):
        surgeon.add_job("delete_layer", "a", "b")
    assert capture(surgeon.operate()) == capture(surgeon.model)


def test_a_surgeon_can_operate_twice_and_changes_nothing():
    model = chain()
    model.compile("adam", "mse")
    before, nodes = capture(model), [len(layer._inbound_nodes) for layer in model.layers]
    surgeon = Surgeon(model, copy=True)
    for job, layer, given in several():
        surgeon.add_job(job, layer, **given)
    first = surgeon.operate()
    assert capture(model) == before
    assert [len(layer._inbound_nodes) for layer in model.layers] == nodes
    assert capture(surgeon.operate()) == capture(first)
    later = Surgeon(model)
    later.add_job("delete_channels", "end", channels=[0])
    assert later.operate().output.shape == (None, 1)
    later.add_job("delete_layer", "c")
    assert [layer.name for layer in later.operate().layers] == ["x", "a", "b", "d", "end"]


def test_an_impossible_job_raises_an_error_in_operate():
    surgeon = Surgeon(chain())
    surgeon.add_job("delete_channels", "a", channels=range(6))
    with pytest.raises(SurgeryError):
        surgeon.operate()


# --- the code of Keras-surgeon's README, with nothing but the import changed


OPERATIONS = """
from kerassurgery_fn.operations import delete_layer, insert_layer, delete_channels
# delete layer_1 from a model
model = delete_layer(model, layer_1)
# insert new_layer_1 before layer_2 in a model
model = insert_layer(model, layer_2, new_layer_3)
# delete channels 0, 4 and 67 from layer_2 in model
model = delete_channels(model, layer_2, [0,4,67])
"""

SURGEON = """
# delete channels 2, 6 and 8 from layer_1 and insert new_layer_1 before
# layer_2 in a model
from kerassurgery_fn import Surgeon
surgeon = Surgeon(model)
surgeon.add_job('delete_channels', {model}layer_1, channels=[2, 6, 8])
surgeon.add_job('insert_layer', {model}layer_2, new_layer=new_layer_1)
new_model = surgeon.operate()
"""


def readme_model():
    x = keras.Input((80,), name="x")
    y = layers.Dense(80, activation="relu", name="layer_1")(x)
    y = layers.Dense(80, activation="relu", name="layer_2")(y)
    model = keras.Model(x, layers.Dense(2, name="end")(y))
    randomise(model)
    return model


def test_the_operations_of_the_readme():
    model, new = readme_model(), layers.Dropout(0.5, name="new")
    names = {"model": model, "layer_1": model.layers[1], "layer_2": model.layers[2], "new_layer_3": new}
    exec(OPERATIONS, names)
    result = names["model"]
    assert [layer.name for layer in result.layers] == ["x", "new", "layer_2", "end"]
    assert result.get_layer("layer_2").units == 77
    kept = np.delete(np.arange(80), [0, 4, 67])
    np.testing.assert_array_equal(
        result.get_layer("layer_2").get_weights()[0], model.get_layer("layer_2").get_weights()[0][:, kept]
    )
    np.testing.assert_array_equal(
        result.get_layer("end").get_weights()[0], model.get_layer("end").get_weights()[0][kept]
    )


@pytest.mark.parametrize("given", ["", "model, "], ids=["today", "as it was once"])
def test_the_surgeon_of_the_readme(given):
    model, new = readme_model(), layers.Dropout(0.5, name="new")
    names = {"model": model, "layer_1": model.layers[1], "layer_2": model.layers[2], "new_layer_1": new}
    exec(SURGEON.format(model=given), names)
    result = names["new_model"]
    assert [layer.name for layer in result.layers] == ["x", "layer_1", "new", "layer_2", "end"]
    kept = np.delete(np.arange(80), [2, 6, 8])
    for name, part in (("layer_1", np.s_[:, kept]), ("layer_2", np.s_[kept])):
        np.testing.assert_array_equal(
            result.get_layer(name).get_weights()[0], model.get_layer(name).get_weights()[0][part]
        )
    assert names["model"].get_layer("layer_1").units == 80
