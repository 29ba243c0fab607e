"""Layers that are made of layers: `capture(model, expand=...)` makes nested models of them."""

import keras
import numpy as np
import pytest
from keras import layers as L
from keras import ops

from helpers.laws import check_law, randomise
from helpers.older import IS_OLDER
from kerassurgery_fn import ClassNotKept, DeleteChannels, capture, groups, rebuild
from kerassurgery_fn.errors import NotAGraph, UnknownLayer, WrongShape

pytestmark = [pytest.mark.keras, pytest.mark.filterwarnings("ignore::kerassurgery_fn.errors.ClassNotKept")]

FEATURES = np.random.default_rng(0).standard_normal((4, 6)).astype("float32")
SEQUENCES = np.random.default_rng(1).standard_normal((4, 5, 8)).astype("float32")


@keras.saving.register_keras_serializable("expanded")
class Block(L.Layer):
    """A block of a transformer, as libraries of models write them."""

    def __init__(self, heads=2, units=12, **kwargs):
        super().__init__(**kwargs)
        self.heads, self.units, self.supports_masking = heads, units, True

    def build(self, shape):
        size = shape[-1]
        self.attention = L.MultiHeadAttention(self.heads, size // self.heads, name="attention")
        self.attention.build(shape, shape)
        self.norm_1, self.norm_2 = L.LayerNormalization(name="norm_1"), L.LayerNormalization(name="norm_2")
        self.inner, self.outer = L.Dense(self.units, "gelu", name="inner"), L.Dense(size, name="outer")
        self.drop = L.Dropout(0.5, name="drop")
        for norm in (self.norm_1, self.norm_2):
            norm.build(shape)
        self.inner.build(shape)
        self.outer.build((*shape[:-1], self.units))

    def call(self, x, padding_mask=None, training=None):
        mask = None if padding_mask is None else padding_mask[:, None, :]
        x = self.norm_1(x + self.drop(self.attention(x, x, attention_mask=mask), training=training))
        return self.norm_2(x + self.outer(self.inner(x)))

    def get_config(self):
        return {**super().get_config(), "heads": self.heads, "units": self.units}


@keras.saving.register_keras_serializable("expanded")
class Pair(L.Layer):
    """Two blocks in a block."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.first, self.second = Block(name="first"), Block(name="second")

    def build(self, shape):
        self.first.build(shape)
        self.second.build(shape)

    def call(self, x):
        return self.second(self.first(x))


@keras.saving.register_keras_serializable("expanded")
class Scale(L.Layer):
    """A layer with a weight of its own."""

    def build(self, shape):
        self.scale = self.add_weight(shape=(shape[-1],), name="scale")

    def call(self, x):
        return x * self.scale


@keras.saving.register_keras_serializable("expanded")
class Step(L.Layer):
    def call(self, x):
        return ops.relu(x) * 2


def transformer(**options):
    tokens = keras.Input((5, 8), name="tokens")
    mask = keras.Input((5,), dtype="bool", name="mask")
    x = Block(name="block_0", **options)(tokens, padding_mask=mask)
    x = Block(name="block_1", **options)(x, padding_mask=mask)
    model = keras.Model({"tokens": tokens, "mask": mask}, L.Dense(3, name="top")(x), name="net")
    randomise(model)
    return model


DATA = {"tokens": SEQUENCES, "mask": np.arange(5) < np.array([[5], [3], [1], [4]])}


def check_expanded(model, data, expand, **options):
    """The expanded model computes the same, and the live one is as it was."""
    before = np.asarray(model(data))
    nodes = [len(layer._inbound_nodes) for layer in model._flatten_layers()]
    snapshot = capture(model, expand=expand, **options)
    assert [len(layer._inbound_nodes) for layer in model._flatten_layers()] == nodes
    again = rebuild(snapshot)
    np.testing.assert_allclose(again(data), before, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(model(data), before)
    assert capture(again) == snapshot
    return snapshot


@pytest.mark.parametrize("expand", ["block_*", True, ["block_0", "block_1"], "*@Block", "*@expanded>Block"])
def test_blocks_of_a_transformer(expand):
    snapshot = check_expanded(transformer(), DATA, expand)
    free = {path for group in groups(snapshot) if not group.reasons for path in group.made}
    assert {"block_0/attention", "block_0/inner", "block_1/attention", "block_1/inner"} <= free


def test_captures_are_equal():
    model = transformer()
    assert capture(model, expand=True) == capture(model, expand="block_*")


def test_one_block_of_two():
    snapshot = check_expanded(transformer(), DATA, "block_1")
    assert {"block_0", "block_1/attention"} <= snapshot.weights.keys()


def test_heads_of_an_expanded_block_are_cut_by_the_law():
    model = rebuild(capture(transformer(heads=4), expand=True))
    edit = DeleteChannels({"block_0/attention:heads": [0, 2], "block_1/attention:heads": [1, 3], "block_*/inner": [5]})
    assert check_law(model, edit).smaller.weights["block_0/attention"][0].shape == (8, 2, 2)


@pytest.mark.slow
def test_training_of_an_expanded_model():
    model = transformer()
    model.compile("adam", "mse")
    targets = np.zeros((4, 5, 3))
    model.fit(DATA, targets, epochs=2, verbose=0)
    snapshot = check_expanded(model, DATA, True)
    again = rebuild(DeleteChannels("block_0/inner", [0])(snapshot))
    assert int(again.optimizer.iterations) == 2
    assert len(again.optimizer.variables) == len(model.optimizer.variables)
    again.fit(DATA, targets, verbose=0)


def test_a_frozen_block_stays_frozen():
    model = transformer()
    model.get_layer("block_0").trainable = False
    again = rebuild(check_expanded(model, DATA, True))
    assert not again.get_layer("block_0").trainable_weights
    assert again.get_layer("block_1").trainable_weights


@pytest.mark.slow
def test_blocks_inside_blocks():
    x = keras.Input((5, 8))
    model = keras.Model(x, L.Dense(2)(Pair(name="pair")(x)))
    assert "pair/first/attention" in check_expanded(model, SEQUENCES, True).weights
    assert "pair/first" in check_expanded(model, SEQUENCES, "pair").weights
    assert {"pair/first", "pair/second/inner"} <= check_expanded(model, SEQUENCES, ["pair", "second"]).weights.keys()


def test_a_block_in_a_nested_model():
    y = keras.Input((5, 8))
    inner = keras.Model(y, Block(name="block")(y), name="backbone")
    x = keras.Input((5, 8))
    model = keras.Model(x, L.Dense(2)(inner(x)))
    assert "backbone/block/attention" in check_expanded(model, SEQUENCES, "block").weights
    assert "backbone/block/attention" in check_expanded(model, SEQUENCES, "backbone/*").weights


def test_a_block_in_a_sequential_model():
    model = keras.Sequential([keras.Input((5, 8)), Block(name="block"), L.Dense(2)])
    snapshot = check_expanded(model, SEQUENCES, True)
    assert "block/inner" in snapshot.weights


def test_a_block_that_is_called_twice():
    x = keras.Input((5, 8))
    block = Block(name="block")
    model = keras.Model(x, L.Dense(2)(block(block(x))))
    assert sum(path.startswith("block/") for path in check_expanded(model, SEQUENCES, True).weights) == 5


def test_a_block_that_is_called_twice_with_other_arguments_is_refused():
    tokens, mask = keras.Input((5, 8), name="tokens"), keras.Input((5,), dtype="bool", name="mask")
    block = Block(name="block")
    model = keras.Model({"tokens": tokens, "mask": mask}, block(block(tokens, padding_mask=mask)))
    with pytest.raises(NotAGraph, match=r"'block' .Block. cannot be expanded: it is called several times, with other"):
        capture(model, expand="block")
    assert "block" in check_expanded(model, {"tokens": SEQUENCES, "mask": DATA["mask"]}, True).weights


def test_a_layer_without_weights():
    x = keras.Input((6,))
    model = keras.Model(x, L.Dense(2)(Step(name="step")(L.Dense(5, name="first")(x))))
    (group,) = (group for group in groups(check_expanded(model, FEATURES, True)) if not group.reasons)
    assert set(group.made) == {"first"}


def test_a_subclassed_model_with_blocks():
    class Net(keras.Model):
        def __init__(self):
            super().__init__(name="net")
            self.block, self.top = Block(name="block"), L.Dense(2, name="top")

        def call(self, x):
            return self.top(self.block(x))

    model = Net()
    model(SEQUENCES)
    assert "block/attention" in check_expanded(model, SEQUENCES, True).weights
    assert "block" in check_expanded(model, SEQUENCES, ()).weights


@pytest.mark.skipif(IS_OLDER, reason="an older Keras writes a config for it")
def test_a_nested_subclassed_model_that_keras_cannot_save_is_expanded_without_asking():
    class Inner(keras.Model):
        def __init__(self, layer):
            super().__init__(name="inner")
            self.layer = layer

        def call(self, x):
            return ops.relu(self.layer(x))

    x = keras.Input((6,))
    model = keras.Model(x, L.Dense(2)(Inner(L.Dense(3, name="dense"))(x)))
    assert "inner/dense" in check_expanded(model, FEATURES, ()).weights


def test_masks_of_an_embedding_become_inputs_of_the_block():
    @keras.saving.register_keras_serializable("expanded")
    class Masked(L.Layer):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.dense = L.Dense(3, name="dense")

        def build(self, shape):
            self.dense.build(shape)

        def call(self, x, mask=None):
            return self.dense(x) * ops.cast(mask, "float32")[..., None]

    tokens = keras.Input((5,), dtype="int32")
    x = Masked(name="masked")(L.Embedding(9, 4, mask_zero=True)(tokens))
    data = np.array([[1, 2, 0, 0, 0], [3, 1, 1, 0, 0]])
    assert "masked/dense" in check_expanded(keras.Model(tokens, x), data, True).weights


def test_a_lost_mask_is_refused():
    x = L.Embedding(9, 8, mask_zero=True)(tokens := keras.Input((5,), dtype="int32"))

    @keras.saving.register_keras_serializable("expanded")
    class Passing(L.Layer):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.dense, self.supports_masking = L.Dense(3, name="dense"), True

        def build(self, shape):
            self.dense.build(shape)

        def call(self, x):
            return ops.relu(self.dense(x))

    model = keras.Model(tokens, L.LSTM(2)(Passing(name="passing")(x)))
    with pytest.raises(NotAGraph, match="the mask of its output differs from the mask of a graph of its layers"):
        capture(model, expand="passing")


@keras.saving.register_keras_serializable("expanded")
class Causal(L.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.attention = L.MultiHeadAttention(2, 4, name="attention")

    def build(self, shape):
        self.attention.build(shape, shape)

    def call(self, x):
        batch, size, _ = ops.shape(x)
        steps = ops.arange(size)
        mask = ops.broadcast_to(steps[None, :, None] >= steps[None, None, :], (batch, size, size))
        return self.attention(x, x, attention_mask=mask)


def test_sizes_that_the_code_computes_with():
    x = keras.Input((None, 8))
    model = keras.Model(x, L.Dense(2)(Causal(name="causal")(x)))
    with pytest.raises(NotAGraph, match=r"ops.arange\(size\).*computes with sizes.*capture\(model, inputs="):
        capture(model, expand="causal")
    snapshot = check_expanded(model, SEQUENCES, "causal", inputs=(None, 5, 8))
    assert "causal/attention" in snapshot.weights
    with pytest.warns(ClassNotKept, match=r"is only valid for these sizes: the shapes were \[\(None, None, 8\)\]"):
        capture(model, expand="causal", inputs=(None, 5, 8))


def test_a_layer_with_weights_of_its_own_stays():
    x = keras.Input((6,))
    model = keras.Model(x, L.Dense(2)(Scale(name="scale")(L.Dense(5)(x))))
    with pytest.raises(NotAGraph, match=r"its call\(\) uses the variables scale/scale"):
        capture(model, expand="scale")
    assert "scale" in capture(model, expand=True).weights  # it is not made of layers


def test_with_true_a_warning_names_the_layers_that_stay():
    @keras.saving.register_keras_serializable("expanded")
    class Tied(L.Layer):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.dense = L.Dense(6, name="dense")

        def build(self, shape):
            self.dense.build(shape)

        def call(self, x):
            return ops.matmul(self.dense(x), ops.transpose(self.dense.kernel))

    x = keras.Input((6,))
    model = keras.Model(x, L.Dense(2)(Tied(name="tied")(x)))
    with pytest.warns(ClassNotKept, match="layer 'tied' stays one layer. Layer 'tied' .Tied. cannot be recorded"):
        assert "tied" in capture(model, expand=True).weights


@pytest.mark.parametrize("expand, error", [("nowhere", UnknownLayer), ("top", UnknownLayer), (3, UnknownLayer)])
def test_what_names_no_layer_is_refused(expand, error):
    with pytest.raises(error):
        capture(transformer(), expand=expand)


def test_random_layers_are_refused():
    @keras.saving.register_keras_serializable("expanded")
    class Noisy(L.Layer):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.dense, self.seed = L.Dense(3, name="dense"), keras.random.SeedGenerator(1)

        def build(self, shape):
            self.dense.build(shape)

        def call(self, x):
            return self.dense(x) + keras.random.normal(ops.shape(x)[1:], seed=self.seed)[:3]

    x = keras.Input((6,))
    with pytest.raises(NotAGraph, match="seed_generator"):
        capture(keras.Model(x, Noisy(name="noisy")(x)), expand="noisy")


def test_fixed_sizes_keep_names_and_dtypes_of_inputs():
    tokens = keras.Input((None,), dtype="int32", name="tokens")
    model = keras.Model(tokens, L.Dense(2)(Block(name="block")(L.Embedding(9, 8)(tokens))))
    snapshot = capture(model, expand="block", inputs=(None, 7))
    config = snapshot.config["layers"][0]["config"]
    assert (config["name"], config["dtype"], list(config["batch_shape"])) == ("tokens", "int32", [None, 7])


@pytest.mark.parametrize("inputs", [[(None, 5, 8)], {"tokens": (None, 5, 8), "other": (None, 5)}])
def test_other_inputs_than_the_model_has_are_refused(inputs):
    with pytest.raises(WrongShape, match=r"has 2 inputs \(mask, tokens\)"):
        capture(transformer(), expand=True, inputs=inputs)


def test_fixed_sizes_hold_in_nested_models():
    y = keras.Input((None, 8))
    inner = keras.Model(y, Causal(name="causal")(y), name="backbone")
    x = keras.Input((None, 8))
    model = keras.Model(x, L.Dense(2)(inner(x)))
    assert "backbone/causal/attention" in check_expanded(model, SEQUENCES, True, inputs=(None, 5, 8)).weights


@keras.saving.register_keras_serializable("expanded")
class Louder(L.MultiHeadAttention):
    """A class derived from one of Keras that computes something else."""

    def call(self, query, value, key=None, training=None):
        query, key, value = self._query_dense(query), self._key_dense(value), self._value_dense(value)
        return 2 * self._output_dense(self._compute_attention(query, key, value, training=training)[0])


def test_a_derived_class_that_computes_something_else_is_expanded():
    x = keras.Input((5, 8))
    model = keras.Model(x, L.Dense(2)(Louder(4, 3, name="loud")(y := L.Dense(8, name="first")(x), y)))
    snapshot = check_expanded(model, SEQUENCES, True)
    assert {"loud/query", "loud/attention_output"} <= snapshot.weights.keys()
    free = {path for group in groups(snapshot) if not group.reasons for path in group.made}
    assert {"first", "loud/query", "loud/key", "loud/value"} <= free


def test_a_loss_that_the_layer_adds_to_its_output_is_named():
    x = keras.Input((5, 8))
    block = Block(name="block", activity_regularizer="l2")
    model = keras.Model(x, L.Dense(2)(block(x)))
    with pytest.warns(ClassNotKept, match="In training, the graph computes other values"):
        capture(model, expand="block")


def test_a_nested_model_that_is_used_twice():
    y = keras.Input((5, 8))
    shared = keras.Model(y, Block(name="block")(y), name="shared")
    z = keras.Input((5, 8))
    outer = keras.Model(z, shared(z), name="outer")
    x = keras.Input((5, 8))
    model = keras.Model(x, [shared(x), outer(x)])
    with pytest.warns(UserWarning, match="one layer in two models"):
        snapshot = capture(model, expand=True)
    assert {"shared/block/attention", "outer/shared/block/attention"} <= snapshot.weights.keys()
