"""Batch normalisations folded into the layers before them: by hand, on live models, and on whole networks."""

import inspect
import sys

import keras
import numpy as np
import pytest
from keras import layers as L

from helpers.laws import check_rebuilt_record, compute, random_inputs, randomise, sabotage
from helpers.needs import NEEDS_CHANNELS_FIRST, marked, slow_network
from helpers.records import call, functional, layer, sequential
from helpers.running import captured
from kerassurgery_fn import ConvertDtype, DeleteLayer, FoldBatchNorm, Plan, capture, rebuild
from kerassurgery_fn.edits.folding import foldable
from kerassurgery_fn.edits.steps.draft import Draft
from kerassurgery_fn.errors import NotFoldable, UnknownLayer
from kerassurgery_fn.values.snapshot import Snapshot

# --- by hand, without Keras


def dense(name, **config):
    return layer("Dense", name, units=2, **config)


def norm(name, **config):
    return layer("BatchNormalization", name, epsilon=0.0, **config)


KERNEL, BIAS = np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([5.0, 6.0])
GAMMA, BETA, MEAN, VARIANCE = np.array([10.0, 2.0]), np.array([1.0, -1.0]), np.array([5.0, 2.0]), np.array([4.0, 1.0])
WEIGHTS = {"a": (KERNEL, BIAS), "bn": (GAMMA, BETA, MEAN, VARIANCE)}


def row(*layers, **weights):
    return Snapshot(sequential("row", (None, 2), *layers), weights)


def test_a_normalisation_is_folded_into_kernel_and_bias():
    after = row(dense("a"), a=(np.array([[5.0, 4.0], [15.0, 8.0]]), np.array([1.0, 7.0])))
    assert FoldBatchNorm()(row(dense("a"), norm("bn"), **WEIGHTS)) == after


def test_a_layer_without_a_bias_gets_one():
    before = row(dense("a", use_bias=False), norm("bn"), a=(KERNEL,), bn=WEIGHTS["bn"])
    after = row(dense("a"), a=(np.array([[5.0, 4.0], [15.0, 8.0]]), np.array([-24.0, -5.0])))
    assert FoldBatchNorm("bn")(before) == after


def test_normalisations_without_gamma_or_beta():
    before = row(dense("a"), norm("bn", scale=False), a=(KERNEL, BIAS), bn=(BETA, MEAN, VARIANCE))
    after = row(dense("a"), a=(np.array([[0.5, 2.0], [1.5, 4.0]]), np.array([1.0, 3.0])))
    assert FoldBatchNorm()(before) == after
    before = row(dense("a"), norm("bn", center=False), a=(KERNEL, BIAS), bn=(GAMMA, MEAN, VARIANCE))
    after = row(dense("a"), a=(np.array([[5.0, 4.0], [15.0, 8.0]]), np.array([0.0, 8.0])))
    assert FoldBatchNorm()(before) == after


def test_a_normalisation_is_folded_once_at_once():
    before = row(dense("a"), norm("bn"), **WEIGHTS)
    assert Plan.at_once(FoldBatchNorm(), FoldBatchNorm())(before) == FoldBatchNorm()(before)
    assert Plan.at_once(DeleteLayer("bn"), FoldBatchNorm())(before) == DeleteLayer("bn")(before)
    with pytest.raises(NotFoldable, match="'bn' cannot be folded: another edit of the same plan deletes it"):
        Plan.at_once(FoldBatchNorm(), FoldBatchNorm("bn"))(before)


def test_two_normalisations_in_a_row_are_folded_in_order():
    before = row(dense("a"), norm("bn"), norm("bn_2"), **WEIGHTS, bn_2=(GAMMA, BETA, MEAN, VARIANCE))
    once = FoldBatchNorm("bn")(before)
    assert FoldBatchNorm()(before) == FoldBatchNorm("bn_2")(once)
    assert FoldBatchNorm()(before).weights.keys() == {"a"}


def test_the_optimizer_state_of_a_folded_layer_is_removed():
    from helpers.pictures import momenta

    snapshot = row(dense("a"), norm("bn"), dense("b"), **WEIGHTS, b=(KERNEL, BIAS))
    trained = Snapshot(snapshot.record, snapshot.weights, momenta(snapshot.weights))
    assert FoldBatchNorm()(trained).training == momenta({"b": (KERNEL, BIAS)})


def fork(**config):
    """Dense layers that may be read twice, and normalisations of what they make."""
    record = functional(
        "net", {"x": (None, 2)},
        call(dense("a", **config), "x"), call(norm("bn"), "a", mask=None),
        call(layer("Add", "sum"), ["a", "bn"]), outputs="sum",
    )  # fmt: skip
    return Snapshot(record, WEIGHTS)


def twice(training=None):
    """A layer and a normalisation that are called twice, the one on what the other makes."""
    given = {"mask": None} if training is None else {"training": training, "mask": None}
    record = functional(
        "net", {"x": (None, 2), "y": (None, 2)},
        call(dense("a"), "x"), call("a", "y"), call(norm("bn"), "a", mask=None), call("bn", ("a", 1, 0), **given),
        call(layer("Add", "sum"), ["bn", ("bn", 1, 0)]), outputs="sum",
    )  # fmt: skip
    return Snapshot(record, WEIGHTS)


def test_a_shared_normalisation_is_folded_into_a_shared_layer():
    after = functional(
        "net", {"x": (None, 2), "y": (None, 2)},
        call(dense("a"), "x"), call("a", "y"), call(layer("Add", "sum"), ["a", ("a", 1, 0)]), outputs="sum",
    )  # fmt: skip
    assert FoldBatchNorm()(twice()).record == after


def other(**config):
    record = functional(
        "net", {"x": (None, 2)}, call(layer("ReLU", "r"), "x"), call(norm("bn", **config), "r", mask=None), outputs="bn"
    )
    return Snapshot(record, {"bn": WEIGHTS["bn"]})


def along_time():
    record = functional(
        "net", {"x": (None, 2, 2)}, call(dense("a"), "x"), call(norm("bn", axis=1), "a", mask=None), outputs="bn"
    )
    return Snapshot(record, WEIGHTS)


REFUSED = {
    "no normalisation": ("a", row(dense("a"), norm("bn"), **WEIGHTS), "it is a Dense"),
    "read by another": ("bn", fork(), "other layers read the output of 'a'"),
    "an activation": ("bn", row(dense("a", activation="relu"), norm("bn"), **WEIGHTS), "has the activation 'relu'"),
    "another layer": ("bn", other(), "output of 'r', a ReLU"),
    "another axis": ("bn", along_time(), "along axis 1"),
    "a call in training": ("bn", twice(training=True), "training=True"),
    "no statistics": ("bn", row(dense("a"), norm("bn"), a=(KERNEL, BIAS), bn=()), "drawn when the model is rebuilt"),
    "no kernel": ("bn", row(dense("a"), norm("bn"), a=(), bn=WEIGHTS["bn"]), "weights of a plain Dense"),
}


@pytest.mark.parametrize("name, before, words", REFUSED.values(), ids=REFUSED)
def test_an_impossible_folding_is_refused_by_name_and_skipped_by_pattern(name, before, words):
    with pytest.raises(NotFoldable, match=f"layer '{name}' cannot be folded: .*{words}"):
        FoldBatchNorm(name)(before)
    if name == "bn":
        assert FoldBatchNorm()(before) == before


def test_nothing_to_fold_is_an_error_only_by_name():
    net = row(dense("a"), a=(KERNEL, BIAS))
    assert FoldBatchNorm()(net) == net
    with pytest.raises(UnknownLayer):
        FoldBatchNorm("bn*")(net)


# --- on live models


def one(make, shape, **norm):
    x = keras.Input(shape)
    return keras.Model(x, L.Dense(3)(L.Flatten()(L.BatchNormalization(name="bn", **norm)(make(x)))))


IMAGE, STEPS, VIDEO = (6, 6, 4), (6, 4), (4, 5, 5, 2)
LIVE = {
    "Dense": lambda: one(L.Dense(5), STEPS),
    "Dense without a bias": lambda: one(L.Dense(5, use_bias=False), STEPS),
    "Conv1D": lambda: one(L.Conv1D(5, 2), STEPS),
    "Conv2D": lambda: one(L.Conv2D(5, 3, strides=2, use_bias=False), IMAGE),
    "Conv2D in groups": lambda: one(L.Conv2D(6, 3, groups=2), IMAGE),
    "Conv3D": lambda: one(L.Conv3D(5, 2), VIDEO),
    "Conv1DTranspose": lambda: one(L.Conv1DTranspose(5, 2), STEPS),
    "Conv2DTranspose": lambda: one(L.Conv2DTranspose(5, 3, strides=2, use_bias=False), IMAGE),
    "Conv3DTranspose": lambda: one(L.Conv3DTranspose(5, 2), VIDEO),
    "DepthwiseConv1D": lambda: one(L.DepthwiseConv1D(2, depth_multiplier=2), STEPS),
    "DepthwiseConv2D": lambda: one(L.DepthwiseConv2D(3, depth_multiplier=3, use_bias=False), IMAGE),
    "SeparableConv1D": lambda: one(L.SeparableConv1D(5, 2), STEPS),
    "SeparableConv2D": lambda: one(L.SeparableConv2D(5, 3, depth_multiplier=2, use_bias=False), IMAGE),
    "channels first": lambda: one(L.Conv2D(5, 3, data_format="channels_first"), (4, 6, 6), axis=1),
    "renormalised": lambda: one(L.Conv2D(5, 3), IMAGE, renorm=True),
    "without gamma": lambda: one(L.Conv2D(5, 3), IMAGE, scale=False, epsilon=1.0),
    "without beta": lambda: one(L.Conv2D(5, 3), IMAGE, center=False),
    "a Sequential model": lambda: keras.Sequential(
        [keras.Input(IMAGE), L.Conv2D(5, 3), L.BatchNormalization(name="bn"), L.ReLU(), L.Flatten(), L.Dense(2)]
    ),
    "a nested model": lambda: one(keras.Sequential([L.Conv2D(4, 3), L.BatchNormalization()]), IMAGE, trainable=False),
}  # fmt: skip


@pytest.mark.keras
@pytest.mark.parametrize("make", marked(LIVE, {"channels first": NEEDS_CHANNELS_FIRST}))
def test_the_model_has_the_same_outputs(make):
    model = make()
    randomise(model)
    before, inputs = captured(model), random_inputs(model)
    after = FoldBatchNorm()(before)
    draft = Draft(before)
    reasons = [foldable(draft, path, lambda scope: draft.facts(scope).specs) for path in norms(before)]
    assert len(norms(after)) == len([reason for reason in reasons if isinstance(reason, str)])
    assert len(norms(after)) < len(norms(before))
    check_rebuilt_record(after)
    truth = compute(before, inputs)
    assert distance(compute(after, inputs), truth) < 1e-5
    assert distance(compute(sabotage(after), inputs), truth) > 1e-3


def norms(snapshot):
    draft = Draft(snapshot)
    return [path for path in draft.before.places if draft.record(path)["class_name"] == "BatchNormalization"]


def distance(results, truths):
    """The largest difference, relative to the largest output."""
    return max(float(np.abs(r - t).max() / np.abs(t).max()) for r, t in zip(results, truths, strict=True))


@pytest.mark.keras
def test_folding_works_after_other_edits():
    model = LIVE["Conv2D"]()
    randomise(model)
    plan = Plan(FoldBatchNorm("bn"), FoldBatchNorm())
    assert plan(capture(model)) == FoldBatchNorm()(capture(model))


# --- on whole networks

APPLICATIONS = {name: make for name, make in vars(keras.applications).items() if inspect.isfunction(make)}
WITHOUT = ("VGG", "ConvNeXt")  # families that have no batch normalisations
NETWORKS = [name for name in APPLICATIONS if not name.startswith(WITHOUT)]
SMALLEST = {"NASNetMobile": 96, "NASNetLarge": 96}  # sides of images; 76 for all others
LINEAR = (L.Dense, L.Conv2D, L.DepthwiseConv2D, L.SeparableConv2D)


@pytest.mark.keras
@pytest.mark.parametrize("name", ["VGG16", "ConvNeXtTiny"])
def test_excluded_networks_have_no_normalisations(name):
    model = APPLICATIONS[name](weights=None, include_top=False, input_shape=(32, 32, 3))
    assert not [one for one in model.layers if isinstance(one, L.BatchNormalization)]


def linear_alone(norm):
    """Whether a normalisation of a live model reads what a linear layer makes for it alone."""
    producer, _, _ = norm._inbound_nodes[0].input_tensors[0]._keras_history
    linear = isinstance(producer, LINEAR) and producer.activation is keras.activations.linear
    return linear and len(producer._outbound_nodes) == 1


# The normalisations of InceptionResNetV2, which takes minutes, stand where those of InceptionV3 do.
FOLDED = [
    pytest.param(name, marks=pytest.mark.exhaustive) if name == "InceptionResNetV2" else slow_network(name)
    for name in NETWORKS
]


@pytest.mark.keras
@pytest.mark.parametrize("name", FOLDED)
def test_networks_without_their_normalisations(name, capsys):
    """Outputs are compared in double precision, for a hundred random layers in a row blow rounding errors up. In single
    precision they are the same within 1e-4, or ten times what rounding does to the network as it was.
    """
    keras.backend.clear_session()
    side = SMALLEST.get(name, 76)
    model = APPLICATIONS[name](weights=None, include_top=False, input_shape=(side, side, 3))
    stay = [one.name for one in model.layers if isinstance(one, L.BatchNormalization) and not linear_alone(one)]
    inputs = calibrated(model)
    before = capture(model)
    after = FoldBatchNorm()(before)
    assert sorted(norms(after)) == sorted(stay)
    assert len(norms(after)) < len(norms(before))
    assert len(after.config["layers"]) == len(before.config["layers"]) - len(norms(before)) + len(stay)
    rebuilt = rebuild(after)
    assert capture(rebuilt).record == after.record
    outputs, truth = called(model, inputs), called(rebuild(ConvertDtype("float64")(before)), inputs)
    folded = FoldBatchNorm()(ConvertDtype("float64")(before))
    double = rebuild(folded)
    exact, single, rounding = (
        distance(*pair)
        for pair in [(called(double, inputs), truth), (called(rebuilt, inputs), outputs), (outputs, truth)]
    )
    with capsys.disabled():
        counts = f"{len(before.config['layers']):4} -> {len(after.config['layers']):4} layers"
        kept = f"{len(norms(before)):4} -> {len(norms(after)):4} normalisations"
        sys.stdout.write(f"\n{name:18} {counts} {kept}  {exact:.0e}  {single:.0e} ({rounding:.0e})\n")
    assert exact < 1e-5
    assert single < max(1e-4, 10 * rounding)
    for path, arrays in sabotage(folded).weights.items():
        if arrays is not folded.weights[path]:
            double.get_layer(path).set_weights(arrays)
    assert distance(called(double, inputs), truth) > 1e-3


def called(model, inputs):
    """What a model makes, in the precision in which it makes it."""
    return [keras.ops.convert_to_numpy(model(inputs, training=False))]


def calibrated(model):
    """Random weights, and statistics of a batch of images; some such images.

    The images differ in large patches: deep layers see them differ much more than they would see noise differ, and are
    not left with the rounding errors of what all images have in common.
    """
    randomise(model)
    side = model.input_shape[1]
    patches = np.random.default_rng(0).uniform(0, 255, (18, 4, 4, 3)).astype("float32")
    pixels = patches.repeat(side // 4, axis=1).repeat(side // 4, axis=2)
    prepared = pixels if any(isinstance(one, L.Rescaling) for one in model.layers) else pixels / 127.5 - 1
    found = [one for one in model.layers if isinstance(one, L.BatchNormalization)]
    for one in found:
        one.momentum = 0.0
    model(prepared[:16], training=True)
    for one in found:
        one.momentum = 0.99
    return prepared[16:]
