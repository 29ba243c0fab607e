"""Sparsity training with live models: the steps that follow the batches, and what pruning then removes."""

import keras
import numpy as np
import pytest
from keras import layers

from kerassurgery_fn import (
    BadValue,
    BatchNormL1,
    DeleteLayer,
    GroupLasso,
    GrowingDecay,
    NotAGraph,
    RelativeDecay,
    SparsityTraining,
    UnknownLayer,
    capture,
    groups,
    importance,
    plan_pruning,
    prune,
    rebuild,
)
from kerassurgery_fn.pruning.group_weights import named_groups
from kerassurgery_fn.pruning.masked_weights import masked_weights

pytestmark = pytest.mark.keras
RNG = np.random.default_rng(0)
X = RNG.normal(size=(64, 4, 4, 3)).astype("float32")
Y = X.mean(axis=(1, 2))[:, :1] - X[:, 0, 0, 1:2]  # a line would do: most channels are not needed


def net(**options):
    """A convolution and a residual addition with batch normalisation, and a dense layer."""
    keras.utils.set_random_seed(0)
    x = keras.Input((4, 4, 3), name="x")
    y = layers.BatchNormalization(name="bn")(layers.Conv2D(8, 1, name="conv")(x))
    y = layers.Add(name="add")([y, layers.Conv2D(8, 1, activation="relu", name="side")(y)])
    y = layers.Dense(6, activation="relu", name="hidden")(layers.Flatten(name="flat")(y))
    model = keras.Model(x, layers.Dense(1, name="top")(y), name="net")
    model.compile(keras.optimizers.SGD(options.pop("rate", 0.05)), "mse", jit_compile=False, **options)
    return model


def still(**options):
    """The model with a learning rate at which training itself changes next to nothing; for a few steps."""
    return net(rate=1e-6, **{"run_eagerly": True, **options})


def norms_of(model, name):
    """The norms of the channels of a group, from all weights of each channel."""
    return importance(capture(model), "group_magnitude", normalisation="none")[name]


def left(model, callback, epochs=1, batch_size=64):
    """The norms of the channels of `hidden`, as shares of those before the training."""
    before = norms_of(model, "hidden")
    model.fit(X, Y, batch_size=batch_size, epochs=epochs, shuffle=False, verbose=0, callbacks=[callback])
    return norms_of(model, "hidden") / before, before


SIZE = 128 + 1 + 1  # weights of a channel of `hidden`: of its kernel, its bias, and the kernel that reads it


def test_group_lasso_takes_the_proximal_step():
    share, norms = left(still(), GroupLasso(2e4, ignore="conv"))
    np.testing.assert_allclose(share, 1 - 1e-6 * 2e4 * np.sqrt(SIZE) / norms, rtol=1e-3)


def test_relative_decay_is_stronger_for_small_channels():
    share, norms = left(still(), RelativeDecay(1e4, alpha=3, ignore="conv"))
    rank = (norms.max() - norms) / (norms.max() - norms.min())
    np.testing.assert_allclose(share, 1 / (1 + 0.01 * 2 ** (3 * rank)), rtol=1e-3)


def test_growing_decay_grows_for_the_channels_of_a_plan():
    model = still()
    plan = plan_pruning(capture(model), importance(model), ratios={"hidden": 0.5})
    deleted = [*plan.edits[0].channels["hidden"]]
    share, _ = left(model, GrowingDecay(plan, growth=1e4, every=2, most=2e4), epochs=4, batch_size=32)
    # Steps 0 to 7 have the strengths 0, 0, 1, 1, 2, 2, 2, 2, times the learning rate of 1e-6.
    np.testing.assert_allclose(share[deleted], 1 / (1.01**2 * 1.02**4), rtol=1e-3)
    np.testing.assert_allclose(np.delete(share, deleted), 1, rtol=1e-4)


def test_a_callback_is_called_for_all_steps_of_an_execution():
    callback = GroupLasso(2e3, ignore="conv")
    share, norms = left(still(steps_per_execution=2, run_eagerly=False), callback, batch_size=16)
    assert callback.steps_done == 4
    np.testing.assert_allclose(share, 1 - 4 * 1e-6 * 2e3 * np.sqrt(SIZE) / norms, rtol=5e-3)


def test_the_schedule_of_the_learning_rate_counts():
    model = net()
    schedule = keras.optimizers.schedules.PiecewiseConstantDecay([1], [1e-6, 3e-6])  # iterations up to 1, and later
    model.compile(keras.optimizers.SGD(schedule), "mse", run_eagerly=True)
    share, norms = left(model, GroupLasso(2e4, ignore="conv"))
    shrunk_again = norms_of(model, "hidden")
    model.fit(X, Y, batch_size=64, verbose=0, callbacks=[GroupLasso(2e4, ignore="conv")])
    step = 1e-6 * 2e4 * np.sqrt(SIZE)
    np.testing.assert_allclose(share, 1 - step / norms, rtol=1e-3)
    np.testing.assert_allclose(norms_of(model, "hidden"), shrunk_again - 3 * step, rtol=1e-3)


SMALL = {"conv": (1, 2, 6), "hidden": (0, 4)}  # channels of which all weights are small at the start


def with_small_channels(model):
    """The model with small weights of some channels, in all layers that have them."""
    snapshot = capture(model)
    weights = dict(snapshot.weights)
    for name, channels in SMALL.items():
        masked = masked_weights(weights, named_groups(groups(snapshot))[name], np.array(channels))
        mixed = {path: [0.1 * a + 0.9 * b for a, b in zip(weights[path], masked[path], strict=True)] for path in masked}
        weights |= {path: tuple(array.astype("float32") for array in arrays) for path, arrays in mixed.items()}
    for path, arrays in weights.items():
        model.get_layer(path).set_weights(arrays)
    return model


def test_training_makes_small_channels_zero_and_pruning_removes_just_these():
    model = with_small_channels(net())
    logs = model.fit(X, Y, epochs=8, batch_size=16, verbose=0, callbacks=[GroupLasso(0.02)]).history
    scores = importance(capture(model), "group_magnitude", normalisation="none")
    assert {name: (*np.flatnonzero(values == 0).tolist(),) for name, values in scores.items()} == SMALL
    assert logs["zero_channels"] == sorted(logs["zero_channels"])
    assert logs["zero_channels"][-1] == 5
    assert logs["loss"][-1] < 0.7 * Y.var()  # the model has learned, all the same
    result = prune(model, by=scores, ratios=scores.ratios(below=1e-6))
    assert {path: channels for edit in result.plan.edits for path, channels in edit.channels.items()} == SMALL
    np.testing.assert_allclose(result.model.predict(X, verbose=0), model.predict(X, verbose=0), atol=1e-5)


def test_without_it_no_channel_is_zero():
    model = with_small_channels(net())
    model.fit(X, Y, epochs=8, batch_size=16, verbose=0)
    assert all(values.min() > 0.1 for values in importance(model, "group_magnitude", normalisation="none").values())


def test_growing_decay_makes_a_plan_harmless():
    model = net()
    plan = plan_pruning(capture(model), importance(model), channels=0.5, scope="local")

    def change():
        return np.abs(rebuild(plan(capture(model)))(X) - model(X)).max()

    assert change() > 0.1
    model.fit(X, Y, epochs=5, batch_size=16, verbose=0, callbacks=[GrowingDecay(plan, growth=4.0, every=2)])
    assert change() < 1e-4


def test_scales_of_batch_normalisations_alone():
    model = still()
    before = capture(model).weights
    model.fit(X, Y, batch_size=64, verbose=0, callbacks=[BatchNormL1(1e5)])
    after = capture(model).weights
    np.testing.assert_allclose(after["bn"][0], before["bn"][0] - 0.1, rtol=1e-3)
    np.testing.assert_allclose(after["conv"][0], before["conv"][0], rtol=1e-3)
    without = rebuild(DeleteLayer("bn")(capture(net())))
    with pytest.raises(BadValue, match=r"no group of 'net' can be shrunk: .* or without weights for of='scales'"):
        without.fit(X, Y, verbose=0, callbacks=[BatchNormL1(1e5)])


def test_frozen_and_ignored_groups_are_left_alone():
    model = still()
    model.get_layer("top").trainable = False
    before = capture(model).weights
    with pytest.raises(BadValue, match=r"no group of 'net' can be shrunk: all are pinned, ignored, frozen"):
        model.fit(X, Y, batch_size=64, verbose=0, callbacks=[GroupLasso(1e4, ignore=["side"])])
    model.fit(X, Y, batch_size=64, verbose=0, callbacks=[GroupLasso(1e4)])
    after = capture(model).weights
    assert (after["top"][0] == before["top"][0]).all()
    np.testing.assert_allclose(after["hidden"][1], before["hidden"][1], atol=1e-5)  # of channels that `top` reads
    assert np.abs(after["conv"][0]).max() < 0.99 * np.abs(before["conv"][0]).max()


class HalfOfAll(SparsityTraining):
    """A penalty of one's own."""

    def amount(self, learning_rate, steps):
        return 0.5

    def factors(self, group, norms, amount):
        return keras.ops.ones_like(norms) * amount


def test_a_penalty_of_ones_own_and_mixed_precision():
    keras.utils.set_random_seed(0)
    x = keras.Input((4, 4, 3))
    y = layers.Dense(5, dtype="mixed_float16", name="hidden")(layers.Flatten()(x))
    model = keras.Model(x, layers.Dense(1, dtype="float16", name="top")(y))
    model.compile(keras.optimizers.SGD(1e-7), "mse", jit_compile=False)
    share, _ = left(model, HalfOfAll(of="producers"))
    assert capture(model).weights["top"][0].dtype == np.float16
    assert share.min() > 0.5  # the kernel that reads the channels is not shrunk
    before = capture(model).weights["hidden"][0]
    model.fit(X, Y, batch_size=64, verbose=0, callbacks=[HalfOfAll()])
    np.testing.assert_allclose(capture(model).weights["hidden"][0], before / 2, rtol=1e-2, atol=1e-5)


@pytest.mark.parametrize("make, words", [
    (lambda: GroupLasso(0), "strength must be a positive number, such as 1e-3, not 0"),
    (lambda: GroupLasso("much"), "strength must be a positive number"),
    (lambda: RelativeDecay(1.0, alpha=-1), "alpha must be a positive number"),
    (lambda: GroupLasso(1.0, of="kernels"), "of: no choice of members 'kernels'; there are all, producers, consumers"),
    (lambda: GrowingDecay(DeleteLayer("bn"), every=0), "every must be a positive integer"),
    (lambda: GrowingDecay(3), "plan"),
])  # fmt: skip
def test_bad_arguments(make, words):
    with pytest.raises(ValueError, match=words):
        make()


def test_bad_models():
    with pytest.raises(UnknownLayer):
        net().fit(X, Y, verbose=0, callbacks=[GroupLasso(1.0, ignore="nothing_*")])
    with pytest.raises(BadValue, match="plan: it deletes no channels of 'net'"):
        net().fit(X, Y, verbose=0, callbacks=[GrowingDecay(DeleteLayer("bn"))])
    coded = Coded()
    coded.compile("sgd", "mse")
    with pytest.raises(NotAGraph, match="is subclassed, and its channels are not known while it trains"):
        coded.fit(X, Y, verbose=0, callbacks=[GroupLasso(1.0)])


class Coded(keras.Model):
    """A subclassed model."""

    def __init__(self):
        super().__init__()
        self.flat, self.dense = layers.Flatten(), layers.Dense(1)

    def call(self, x):
        return self.dense(self.flat(x))
