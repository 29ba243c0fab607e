"""Other classes for the last layer: as pictures, and on live models whose old classes compute what they did."""

import pickle

import keras
import numpy as np
import pytest
from keras import layers as L

from helpers.laws import check_rebuilt_record, compute, deviation, random_inputs, randomise
from helpers.pictures import chain, fork, momenta, nested, residual
from helpers.records import call, constant, functional, layer, numbers, operation, sequential
from helpers.running import captured
from kerassurgery_fn import (
    InsertLayer,
    KeepChannels,
    Plan,
    ReorderChannels,
    ReplaceHead,
    SetConfig,
    SetTrainable,
    capture,
    decode,
    encode,
    explain,
    rebuild,
)
from kerassurgery_fn.edits.steps.initial_weights import DRAWS, drawn
from kerassurgery_fn.errors import (
    AmbiguousLayer,
    BadValue,
    ChannelOutOfRange,
    NoHead,
    PinnedChannels,
    SurgeryError,
    UnknownLayer,
)
from kerassurgery_fn.values.snapshot import Snapshot

# --- pictures: all classes are old ones, so that nothing is drawn

PICTURES = {
    "the classes in another order": (ReplaceHead(2, keep=[1, 0]), chain(), chain(c=[1, 0])),
    "fewer": (ReplaceHead(1, keep=[1]), chain(), chain(c=[1])),
    "one of them twice": (ReplaceHead(3, keep={0: 1, 1: 0, 2: -1}), chain(), chain(c=[1, 0, 1])),
    "all as they are": (ReplaceHead(2, keep=range(2)), chain(), chain()),
    "after a sum": (ReplaceHead(2, keep=[1, 0], layer="r"), residual(), ReorderChannels(
        "r", [1, 0], allow_output_change=True)(residual())),
    "after a join": (ReplaceHead(3, keep=[1, 1, 0]), fork(), fork(out=[1, 1, 0])),
}  # fmt: skip


@pytest.mark.parametrize("edit, before, after", PICTURES.values(), ids=PICTURES)
def test_old_classes_keep_their_weights(edit, before, after):
    kept = pickle.loads(pickle.dumps(before))
    assert edit(before) == after
    assert before == kept


def test_one_of_several_outputs_is_named_by_its_layer():
    before = nested()
    made = ReplaceHead(2, keep=[0, 0], layer="t")(before)
    kernel, bias = made.weights["t"]
    assert np.array_equal(kernel, np.repeat(before.weights["t"][0], 2, axis=1))
    assert np.array_equal(bias, np.repeat(before.weights["t"][1], 2))
    assert made.weights["u"] is before.weights["u"]


def test_keeping_classes_is_keeping_and_reordering_channels():
    kept = ReplaceHead(1, keep=[1])(chain())
    assert kept == KeepChannels("c", [1], allow_output_change=True)(chain())


def test_new_classes_depend_on_the_seed_and_old_classes_stay():
    before = chain()
    made, again, other = (ReplaceHead(5, keep={0: 1, 3: 0}, seed=seed)(before) for seed in (0, 0, 1))
    assert made == again
    kernel, bias = made.weights["c"]
    old_kernel, old_bias = before.weights["c"]
    assert made.record == chain(c=range(5)).record
    assert np.array_equal(kernel[:, [0, 3]], old_kernel[:, [1, 0]])
    assert np.array_equal(bias, [old_bias[1], 0, 0, old_bias[0], 0])
    limit = np.sqrt(6 / (3 + 5))
    assert kernel.dtype == old_kernel.dtype
    assert 0 < np.abs(kernel[:, [1, 2, 4]]).max() < limit
    assert not np.isclose(kernel, other.weights["c"][0])[:, [1, 2, 4]].any()
    assert np.array_equal(kernel[:, [0, 3]], other.weights["c"][0][:, [0, 3]])
    assert all(made.weights[path] is before.weights[path] for path in "ab")


def test_the_optimizer_state_of_the_head_alone_is_removed():
    made = ReplaceHead(5, keep=[0, 1])(chain(training=True))
    assert made.training == momenta({path: chain().weights[path] for path in "ab"})


def test_both_forms_of_keep_are_data():
    assert ReplaceHead(4, keep=[3, 1]) == ReplaceHead(4, {1: 1, 0: 3}) == ReplaceHead(4, np.array([3, 1]))
    assert ReplaceHead(4, {1: 1, 0: 3}).keep == {0: 3, 1: 1}
    assert hash(ReplaceHead(4)) == hash(ReplaceHead(4, None))
    assert decode(encode(ReplaceHead(4, {2: -1}))) == ReplaceHead(4, {2: -1})
    edit = ReplaceHead(np.int64(4), keep=np.array([1]), layer=("c",))
    assert decode(encode(edit)) == edit


def test_names_and_the_rest_of_the_config_stay():
    record = sequential("net", (None, 3), layer("Dense", "top", units=2, activation="softmax", use_bias=False))
    made = ReplaceHead(4)(Snapshot(record, {"top": (numbers(3, 2),)}))
    old, new = (one.config["layers"][1]["config"] for one in (Snapshot(record, {}), made))
    assert {**old, "units": 4} == new
    assert len(made.weights["top"]) == 1


def compiled(metrics):
    record = {**chain().record, "compile_config": {"loss": "mse", "metrics": metrics, "optimizer": {"num_classes": 2}}}
    return Snapshot(record, chain().weights)


def metric(**config):
    return {"class_name": "MeanIoU", "config": config}


def test_metrics_that_count_classes_are_updated():
    made = ReplaceHead(5)(compiled([metric(num_classes=2), ["acc", metric(num_classes=3)], metric(num_labels=2)]))
    counted = [metric(num_classes=5), ["acc", metric(num_classes=3)], metric(num_labels=5)]
    assert made.record["compile_config"]["metrics"] == counted
    assert made.record["compile_config"]["optimizer"] == {"num_classes": 2}
    plain = compiled(["acc"])
    assert ReplaceHead(5)(plain).record["compile_config"] is plain.record["compile_config"]


# --- refusals


def net(*calls, outputs):
    return Snapshot(
        functional("net", {"x": (None, 3)}, call(layer("Dense", "a", units=4), "x"), *calls, outputs=outputs), {}
    )


def joined():
    return net(
        call(layer("Dense", "b", units=4), "x"), call(layer("Concatenate", "cat"), ["a", "b"]), outputs="cat"
    )  # fmt: skip


def read():
    return net(call(layer("Dense", "b", units=2), "a"), outputs=["a", "b"])


def weighed():
    return net(call(operation("Multiply", "times"), "a", constant([1, 2, 3, 4]), out=(None, 4)), outputs="times")


def picked():
    return net(call(operation("Sort", "sort", axis=-1), "a", out=(None, 4)), outputs="sort")


def odd():
    mine = layer("Odd", "odd", module="mine", registered_name="mine>Odd")
    return net(call(mine, "a", out=(None, 4)), outputs="odd")


def begun(**config):
    record = sequential("net", (None, 3), layer("Dense", "a", units=2, **config))
    return Snapshot(record, {"a": (numbers(3, 2), numbers(2))})


def shuffled():
    """Classes in columns, places in rows of what a convolution makes."""
    record = functional(
        "net", {"x": (None, 4, 4, 2)}, call(layer("Conv2D", "a", filters=6), "x"),
        call(layer("Reshape", "grid", target_shape=[3, 3, 3, 2]), "a"), outputs="grid",
    )  # fmt: skip
    return Snapshot(record, {"a": (numbers(2, 2, 2, 6), numbers(6))})


ORTHOGONAL = {"module": "keras.initializers", "class_name": "Orthogonal", "config": {"gain": 1.0}}
REFUSED = {
    "several outputs": (ReplaceHead(3), nested(), AmbiguousLayer, "2 outputs, computed by 't', 'u'; give the layer"),
    "several layers in one output": (ReplaceHead(3), joined(), AmbiguousLayer, "'a', 'b' create channels of one"),
    "no such layer": (ReplaceHead(3, layer="cc"), chain(), UnknownLayer, "did you mean 'c'"),
    "no last layer": (ReplaceHead(3, layer="a"), chain(), NoHead, "the output of 'a' is not an output"),
    "a layer that is read, too": (ReplaceHead(3, layer="a"), read(), NoHead, "'b' reads the output of 'a', so"),
    "a constant for each class": (ReplaceHead(3), weighed(), NoHead, "an array with a number for each class of 'a'"),
    "classes that are held": (ReplaceHead(3), picked(), PinnedChannels, "of 'a' cannot be replaced: 'sort'"),
    "an unknown layer": (ReplaceHead(3), odd(), NoHead, "the output of 'odd' .*: 'odd' is of the class mine>Odd"),
    "an unknown layer after it": (ReplaceHead(3, layer="a"), odd(), NoHead, "the output of 'a' is not an output"),
    "no such old class": (ReplaceHead(3, keep=[2]), chain(), ChannelOutOfRange, r"'c' has 2 classes \(0 to 1\)"),
    "another initializer": (
        ReplaceHead(3), begun(kernel_initializer=ORTHOGONAL), BadValue, "initializer Orthogonal .*SetConfig",
    ),
    "no initializer": (ReplaceHead(3), begun(kernel_initializer=None), BadValue, "has no initializer for its kernel"),
}  # fmt: skip


@pytest.mark.parametrize("edit, before, error, words", REFUSED.values(), ids=REFUSED)
def test_a_layer_that_is_no_head_is_refused(edit, before, error, words):
    with pytest.raises(error, match=words):
        edit(before)
    assert issubclass(error, SurgeryError)


def test_the_number_of_classes_is_validated():
    for wrong in (0, -1, 2.5, "4", True, None):
        with pytest.raises(BadValue, match="units= is the number of classes"):
            ReplaceHead(wrong)
    with pytest.raises(ChannelOutOfRange, match=r"there will be 3 classes \(0 to 2\), so there is no class 3"):
        ReplaceHead(3, keep=[0, 1, 0, 1])
    for wrong in ({"cat": 1}, ["cat"], {0: None}, [0.5]):
        with pytest.raises(ChannelOutOfRange, match="takes numbers of new and of old classes"):
            ReplaceHead(3, keep=wrong)


def test_a_head_is_replaced_alone_in_a_plan():
    with pytest.raises(SurgeryError, match="put it in a Plan of its own"):
        Plan.at_once(ReplaceHead(3))
    told = str(explain(Plan(ReplaceHead(3, keep=[0, 1]), SetConfig("c", activation="softmax")), chain()))
    assert "softmax" in told
    assert "c" in told


# --- first values


SHAPE = (3, 3, 16, 40)
CERTAIN = ("Zeros", "Ones", "Constant")


@pytest.mark.keras
@pytest.mark.parametrize("name", DRAWS)
def test_initial_values_agree_with_keras(name):
    options = {
        "Constant": {"value": 0.3},
        "VarianceScaling": {"scale": 0.7, "mode": "fan_out", "distribution": "uniform"},
    }
    theirs = getattr(keras.initializers, name)(**options.get(name, {}), **({"seed": 1} if name not in CERTAIN else {}))
    record = keras.saving.serialize_keras_object(L.Conv2D(40, 3, name="a", kernel_initializer=theirs))
    ours = drawn("a", record, "kernel", SHAPE, np.random.default_rng(0))
    truth = keras.ops.convert_to_numpy(theirs(SHAPE))
    assert ours.shape == SHAPE
    places = [0.02, 0.2, 0.4, 0.7, 0.98]
    assert np.quantile(ours, places) == pytest.approx(np.quantile(truth, places), abs=0.1 * float(truth.std()) + 1e-6)
    assert ours.std() == pytest.approx(truth.std(), rel=0.05, abs=1e-6)
    if name in ("TruncatedNormal", "GlorotNormal", "HeNormal", "LecunNormal"):
        assert np.abs(ours).max() < 2.3 * ours.std()


# --- live models


def on_image(*layers):
    x = y = keras.Input((8, 8, 3))
    for one in (L.Conv2D(4, 3, activation="relu", name="below"), *layers):
        y = one(y)
    return keras.Model(x, y)


def pyramid():
    """One head on two levels, for three boxes at each place."""
    x = keras.Input((8, 8, 3))
    below, head = L.Conv2D(4, 3, padding="same", name="below")(x), L.Conv2D(3 * 5, 3, padding="same", name="top")
    levels = [L.Reshape((-1, 5))(head(level)) for level in (below, L.MaxPooling2D()(below))]
    return keras.Model(x, L.Concatenate(axis=1)(levels))


def two_heads():
    x = keras.Input((8, 8, 3))
    y = L.Flatten()(L.Conv2D(4, 3, name="below")(x))
    return keras.Model(
        x, {"a": L.Dense(5, name="side")(y), "b": L.Activation("linear", name="b")(L.Dense(5, name="top")(y))}
    )


def ensemble():
    x = keras.Input((8, 8, 3))
    y = L.Flatten()(L.Conv2D(4, 3, name="below")(x))
    return keras.Model(x, L.Average()([L.Dense(5, name="top")(y), L.Dense(5, name="other")(y)]))


def in_a_model():
    head = keras.Sequential(
        [L.Flatten(name="flat"), L.Dense(5, name="top"), L.Activation("linear", name="end")], name="head"
    )
    return on_image(head)


LIVE = {
    "a dense layer": (lambda: on_image(L.Flatten(), L.Dense(5, name="top")), None),
    "a Sequential model": (lambda: keras.Sequential([keras.Input((4,)), L.Dense(5, name="top")]), None),
    "an activation after it": (lambda: on_image(L.Flatten(), L.Dense(5, name="top"), L.Activation("tanh")), None),
    "a convolution and a reshape": (
        lambda: on_image(L.GlobalAveragePooling2D(keepdims=True), L.Conv2D(5, 1, name="top"), L.Reshape((5,))), None,
    ),
    "a pool after it": (lambda: on_image(L.Conv2D(5, 1, name="top"), L.GlobalMaxPooling2D()), None),
    "dropout and a pool": (
        lambda: on_image(L.Conv2D(5, 2, name="top"), L.Dropout(0.5), L.GlobalAveragePooling2D()), None,
    ),
    "each pixel": (lambda: on_image(L.Conv2DTranspose(5, 3, name="top")), None),
    "separable": (lambda: on_image(L.SeparableConv2D(5, 3, name="top")), None),
    "a normalisation after it": (lambda: on_image(L.Flatten(), L.Dense(5, name="top"), L.BatchNormalization()), None),
    "each step": (lambda: on_image(L.Reshape((6, 24)), L.TimeDistributed(L.Dense(5), name="top")), None),
    "an einsum": (
        lambda: on_image(L.Reshape((6, 24)), L.EinsumDense("abc,cd->abd", (None, 5), bias_axes="d", name="top")), None,
    ),
    "groups below it": (
        lambda: on_image(L.Conv2D(6, 3, groups=2), L.Flatten(), L.Dense(5, name="top")), None,
    ),
    "one head on two levels": (pyramid, None),
    "two that are averaged": (ensemble, None),
    "in a nested model": (in_a_model, None),
    "in a nested model, by its layer": (in_a_model, "end"),
    "in a nested model, by the model": (in_a_model, "head"),
    "one of two": (two_heads, "top"),
    "one of two, by what stands after it": (two_heads, "b"),
}  # fmt: skip
KEPT = {0: 3, 2: 1, 6: 4}
of_live = pytest.mark.parametrize("make, layer", LIVE.values(), ids=LIVE)


@pytest.mark.keras
@of_live
@pytest.mark.parametrize("units, keep", [(7, KEPT), (2, {1: 3})], ids=["more", "fewer"])
def test_outputs_of_old_classes_stay_the_same(make, layer, units, keep):
    model = make()
    randomise(model)
    before, inputs = captured(model), random_inputs(model)
    after = ReplaceHead(units, keep=keep, layer=layer)(before)
    check_rebuilt_record(after)
    truth_of_all, made_of_all = compute(before, inputs), compute(after, inputs)
    truth, made = truth_of_all[-1], made_of_all[-1]
    assert made.shape == (*truth.shape[:-1], units)
    new, old = [*keep], [*keep.values()]
    assert deviation([made[..., new]], [truth[..., old]]) < 2e-5
    assert deviation([made[..., new]], [truth[..., [(one + 1) % 5 for one in old]]]) > 1e-2
    for fresh in set(range(units)) - keep.keys():
        assert min(np.abs(made[..., fresh] - truth[..., one]).max() for one in range(5)) > 1e-3
    if layer in ("top", "b"):
        assert deviation(made_of_all[:1], truth_of_all[:1]) < 1e-6


@pytest.mark.keras
def test_a_softmax_after_the_head_covers_the_new_classes():
    model = on_image(L.Flatten(), L.Dense(5, name="top"), L.Softmax(name="probabilities"))
    after = rebuild(ReplaceHead(7)(capture(model)))
    made = after(random_inputs(model))
    assert np.allclose(keras.ops.sum(made, axis=-1), 1)
    assert made.shape[-1] == 7


@pytest.mark.keras
def test_one_output_becomes_several_classes_and_the_other_way_round():
    model = on_image(L.Flatten(), L.Dense(1, activation="sigmoid", name="top"))
    randomise(model)
    before = capture(model)
    after = Plan(ReplaceHead(3, keep=[0]), SetConfig("top", activation="softmax"))(before)
    assert capture(rebuild(after)) == after
    assert np.array_equal(after.weights["top"][0][:, :1], before.weights["top"][0])
    assert Plan(SetConfig("top", activation="sigmoid"), ReplaceHead(1, keep=[0]))(after) == before


@pytest.mark.keras
def test_half_precision_stays():
    model = on_image(L.Flatten(), L.Dense(5, name="top", dtype="float16"))
    after = ReplaceHead(7)(capture(model))
    assert {array.dtype for array in after.weights["top"]} == {np.dtype("float16")}
    assert capture(rebuild(after)) == after


@pytest.mark.keras
def test_transfer_learning_from_one_set_of_classes_to_another():
    model = on_image(L.GlobalAveragePooling2D(), L.Dense(5, activation="softmax", name="top"))
    model.compile(
        keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy", metrics=["accuracy"], run_eagerly=True
    )
    x, y = np.random.default_rng(0).normal(size=(32, 8, 8, 3)), np.arange(32) % 7
    model.fit(x, y % 5, verbose=0)
    plan = Plan(ReplaceHead(7, keep=range(5)), SetTrainable("*", False), SetTrainable("top"))
    after = plan(capture(model))
    tuned = rebuild(after)
    assert int(tuned.optimizer.iterations) == 1
    tuned.fit(x, y, verbose=0)
    assert np.array_equal(tuned.get_layer("below").kernel, model.get_layer("below").kernel)
    assert not np.allclose(tuned.get_layer("top").kernel[:, :5], model.get_layer("top").kernel)


@pytest.mark.keras
def test_a_backbone_gets_a_head_and_the_head_other_classes():
    backbone = keras.applications.MobileNetV2((32, 32, 3), weights=None, include_top=False, alpha=0.35, pooling="avg")
    plan = Plan(InsertLayer(L.Dense(5, name="top"), after="*@GlobalAveragePooling2D"), ReplaceHead(3))
    made = plan(capture(backbone))
    assert rebuild(made).output_shape == (None, 3)


@pytest.mark.keras
@pytest.mark.parametrize("name", ["MobileNet", pytest.param("MobileNetV2", marks=pytest.mark.slow)])
def test_networks_with_other_classes(name):
    five, seven = (
        getattr(keras.applications, name)((32, 32, 3), alpha=0.5, weights=None, classes=n, name="net") for n in (5, 7)
    )
    before, truth = capture(five), capture(seven)
    after = ReplaceHead(7, keep=KEPT)(before)
    shapes = [[[array.shape for array in arrays] for arrays in one.weights.values()] for one in (after, truth)]
    assert shapes[0] == shapes[1]
    assert sum(after.weights[path] is not before.weights[path] for path in before.weights) == 1
    assert capture(rebuild(after)) == after
