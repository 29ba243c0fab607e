"""LoRA weights, quantized layers and whatever else a layer knows: cut, held, written into the config, or refused."""

import keras
import numpy as np
import pytest
from keras import layers as L
from keras import ops

from helpers.laws import check_law, compute, deviation, judge, random_inputs, randomise
from helpers.older import IS_OLDER
from helpers.small_models import chain
from kerassurgery_fn import ConvertDtype, DeleteChannels, SetConfig, analyse, capture, cost, rebuild
from kerassurgery_fn.errors import BadValue, HiddenState, PinnedChannels

pytestmark = pytest.mark.keras


def reversible(**options):
    x = keras.Input((5,), dtype="int32")
    layer = L.ReversibleEmbedding(9, 8, name="layer", **options)
    return keras.Model(x, layer(L.Dense(8)(L.Dense(6)(layer(x))), reverse=True))


MODELS = {
    "dense": lambda: chain((6,), L.Dense(8), L.Dense(7, name="layer"), L.Dense(4)),
    "dense without bias": lambda: chain((6,), L.Dense(8), L.Dense(7, use_bias=False, name="layer"), L.Dense(4)),
    "einsum": lambda: chain(
        (5, 6), L.Dense(9), L.Dense(8), L.EinsumDense("abc,cd->abd", (5, 7), bias_axes="d", name="layer")
    ),
    "einsum to heads": lambda: chain(
        (5, 6), L.Dense(9), L.Dense(8), L.EinsumDense("abc,cde->abde", (5, 3, 4), name="layer")
    ),
    "embedding": lambda: chain((5,), L.Embedding(9, 8, name="layer"), L.Dense(4), dtype="int32"),
    "reversible embedding": reversible,
    "reversible embedding, not tied": lambda: reversible(tie_weights=False),
}
CONVOLUTIONS = {
    "conv1d": lambda: chain((9, 3), L.Conv1D(6, 2), L.Conv1D(7, 2, name="layer"), L.Conv1D(4, 1)),
    "conv2d": lambda: chain((6, 6, 3), L.Conv2D(6, 2), L.Conv2D(7, 2, name="layer"), L.Conv2D(4, 1)),
    "conv2d in groups": lambda: chain(
        (6, 6, 3), L.Conv2D(8, 2), L.Conv2D(8, 2, groups=2, name="layer"), L.Conv2D(4, 1)
    ),
    "conv3d": lambda: chain((4, 4, 4, 2), L.Conv3D(6, 2), L.Conv3D(7, 2, name="layer"), L.Conv3D(4, 1)),
}


# --- LoRA


@pytest.mark.parametrize("name", [name for name in MODELS | CONVOLUTIONS if "not tied" not in name])
def test_lora_weights_are_cut_with_the_kernel(name):
    model = (MODELS | CONVOLUTIONS)[name]()
    model.get_layer("layer").enable_lora(2)
    assert check_law(model).prunable > 0.6


def test_lora_inside_time_distributed():
    model = chain((3, 6), L.Dense(8), L.TimeDistributed(L.Dense(7), name="steps"), L.Dense(4))
    model.get_layer("steps").layer.enable_lora(2)
    check_law(model)


ALPHAS = ["dense", "einsum", "reversible embedding", "conv1d"]


@pytest.mark.parametrize("name", ALPHAS)
def test_the_scale_of_lora_stays(name):
    """Some layers of Keras build themselves with an alpha equal to the rank, whatever their config says."""
    model = (MODELS | CONVOLUTIONS)[name]()
    model.get_layer("layer").enable_lora(2, lora_alpha=9)
    randomise(model)
    inputs, snapshot = random_inputs(model), capture(model)
    assert deviation(compute(snapshot, inputs), [np.asarray(model(inputs))]) < 1e-6
    assert capture(rebuild(snapshot)) == snapshot
    other = SetConfig("layer", lora_alpha=3)(snapshot)
    assert capture(rebuild(other)) == other
    model.get_layer("layer").lora_alpha = 3
    assert deviation(compute(other, inputs), [np.asarray(model(inputs))]) < 1e-6
    half = ConvertDtype("bfloat16")(snapshot)
    assert [one.dtype.name for one in half.weights["layer"][-2:]] == ["float32", "float32"]
    assert half.weights["layer"][0].dtype.name == "bfloat16"
    assert IS_OLDER or capture(rebuild(half)) == half  # an older Keras makes the adapters in half precision


def test_the_scale_of_lora_inside_wrappers_stays():
    model = chain((3, 6), L.TimeDistributed(L.Dense(7), name="steps"), L.Dense(4))
    model.get_layer("steps").layer.enable_lora(2, lora_alpha=9)
    randomise(model)
    inputs, snapshot = random_inputs(model), capture(model)
    assert deviation(compute(snapshot, inputs), [np.asarray(model(inputs))]) < 1e-6
    assert [one.dtype.name for one in ConvertDtype("float16")(snapshot).weights["steps"][-2:]] == ["float32"] * 2


def test_an_invalid_alpha_is_refused():
    with pytest.raises(BadValue, match="lora_alpha cannot be 'x'"):
        SetConfig("layer", lora_alpha="x")(capture(chain((6,), L.Dense(8, name="layer", lora_rank=2))))


def test_an_impossible_rebuild_is_explained():
    """A ReversibleEmbedding with two matrices cannot be built with LoRA, it can only be changed to it later."""
    model = reversible(tie_weights=False)
    model.get_layer("layer").enable_lora(2)
    with pytest.raises(HiddenState, match="Keras cannot build such a layer from its config; merge the LoRA"):
        capture(model)


def test_the_kernel_under_lora_is_frozen():
    model = MODELS["dense"]()
    model.get_layer("layer").enable_lora(2)
    trainable = {one.name: one.trainable for one in analyse(capture(model)).weights["layer"]}
    assert trainable == {"kernel": False, "bias": True, "lora_kernel_a": True, "lora_kernel_b": True}
    assert cost(capture(model)).trainable == sum(np.prod(v.shape) for v in model.trainable_variables)


def test_lora_that_is_not_in_the_config_is_refused():
    """Attention writes nothing of the adapters inside it, and Keras cannot load its own file of such a model."""
    x = keras.Input((5, 8))
    attention = L.MultiHeadAttention(2, 4, name="attention")
    model = keras.Model(x, attention(x, x))
    attention.query_dense.enable_lora(2)
    with pytest.raises(HiddenState, match=r"'attention' \(MultiHeadAttention\) has LoRA weights in a sublayer"):
        capture(model)


# --- quantized layers


@pytest.mark.parametrize("mode", ["int8", "int4"])
@pytest.mark.parametrize("name", MODELS)
def test_quantized_layers_are_pinned(name, mode):
    model = MODELS[name]()
    randomise(model)
    model.get_layer("layer").quantize(mode)
    before = capture(model)
    inputs = random_inputs(model)
    np.testing.assert_array_equal(np.asarray(model(inputs)), compute(before, inputs)[0])
    assert "is quantized (int" in analyse(before).opaque["layer"]
    check_law(model, opaque={"layer"})


def test_layers_around_a_quantized_layer_can_be_cut():
    model = chain((6,), L.Dense(8, name="a"), L.Dense(9, name="b"), L.Dense(7, name="layer"), L.Dense(6, name="c"))
    model.get_layer("layer").quantize("int8")
    with pytest.raises(PinnedChannels, match=r"'layer' \(Dense\) is quantized \(int8\).*cut the model before quantize"):
        DeleteChannels("b", [0])(capture(model))
    smaller = DeleteChannels({"a": [0, 1], "c": [2]})(capture(model))
    assert smaller.weights["b"][0].shape == (6, 9)
    assert rebuild(smaller).get_layer("layer").quantization_mode == "int8"


@pytest.mark.slow
def test_a_model_that_is_quantized_after_surgery():
    model = MODELS["dense"]()
    smaller = rebuild(DeleteChannels("layer", [0, 3])(capture(model)))
    smaller.quantize("int8")
    assert capture(rebuild(capture(smaller))) == capture(smaller)


@pytest.mark.parametrize("mode, words", [("float8", "quantized to float8"), ("int8", "has quantized weights in")])
def test_quantization_that_keras_could_not_rebuild_is_refused(mode, words):
    x = keras.Input((5, 8))
    model = keras.Model(x, L.MultiHeadAttention(2, 4, name="attention")(x, x))
    model.quantize(mode)
    with pytest.raises(HiddenState, match=f"'attention'.*{words}"):
        capture(model)


# --- vocabularies and other state


def lookup_model(layer):
    """A model that reads what a lookup makes of strings or integers, and an input beside it."""
    x = keras.Input((4,), dtype="string" if isinstance(layer, L.StringLookup) else "int64")
    y = L.Embedding(9, 6, name="embedding")(layer(x))
    return keras.Model(x, L.Dense(3, name="top")(L.Flatten()(L.Dense(5, name="dense")(y))))


def adapted(layer, data):
    layer.adapt(data)
    return layer


STRINGS, NUMBERS = np.array([["a", "b", "c", "a"], ["x", "a", "", "c"]]), np.array([[3, 5, 9, 3], [7, 3, 2, 5]])
LOOKUPS = {
    "strings": (lambda: adapted(L.StringLookup(mask_token=""), STRINGS), STRINGS),
    "given strings": (lambda: L.StringLookup(vocabulary=["c", "a"]), STRINGS),
    "integers": (lambda: adapted(L.IntegerLookup(), NUMBERS), NUMBERS),
    "given integers": (lambda: L.IntegerLookup(vocabulary=[9, 2], num_oov_indices=2), NUMBERS),
}


@pytest.mark.parametrize("name", LOOKUPS)
def test_lookups_keep_their_vocabulary(name):
    make, data = LOOKUPS[name]
    model = lookup_model(make())
    randomise_without_call(model)
    before = capture(model)
    assert analyse(before).opaque == {}
    assert capture(rebuild(before)) == before
    inputs = ops.convert_to_tensor(data)
    np.testing.assert_allclose(compute(before, inputs)[0], model(inputs), rtol=1e-5)
    smaller = DeleteChannels({"embedding": [0, 4], "dense": [1]})(before)
    assert deviation(compute(smaller, inputs), compute(judge(before, smaller), inputs)) < 2e-5
    assert capture(rebuild(smaller)) == smaller


def randomise_without_call(model):
    for variable in model.weights:
        variable.assign(np.random.default_rng(0).standard_normal(variable.shape))


def text_model(**options):
    x = keras.Input((1,), dtype="string")
    vectors = L.TextVectorization(name="text", **options)
    vectors.adapt(["some words here", "and more words there", "here"])
    return keras.Model(x, L.Dense(3)(L.Dense(5, name="dense")(ops.cast(vectors(x), "float32"))))


@pytest.mark.parametrize(
    "options", [{"output_mode": "tf_idf"}, {"output_sequence_length": 4}, {"output_mode": "count"}]
)
def test_text_keeps_its_vocabulary(options):
    model = text_model(**options)
    before = capture(model)
    text = ops.convert_to_tensor([["more words, and more"], ["nobody knows there"]])
    np.testing.assert_allclose(compute(before, text)[0], model(text), rtol=1e-5)
    again = capture(rebuild(before))
    assert again == before
    smaller = DeleteChannels("dense", [0, 2])(before)
    assert analyse(before).opaque == {"text": "combines all its inputs into integer codes"}
    assert deviation(compute(smaller, text), compute(judge(before, smaller), text)) < 2e-5


def test_adapted_bins_are_kept():
    bins = L.Discretization(num_bins=4)
    bins.adapt(np.random.default_rng(0).standard_normal(200))
    x = keras.Input((6,))
    model = keras.Model(x, L.Dense(3)(L.Embedding(4, 5)(bins(L.Dense(7)(x)))))
    check_law(model)


def test_adapted_normalization_keeps_its_statistics():
    norm = L.Normalization()
    norm.adapt(np.random.default_rng(0).standard_normal((200, 6)) * 3 + 2)
    x = keras.Input((6,))
    model = keras.Model(x, L.Dense(3)(norm(x)))
    inputs = random_inputs(model)
    np.testing.assert_array_equal(compute(capture(model), inputs)[0], model(inputs))


@keras.saving.register_keras_serializable("tests")
class Secretive(L.Layer):
    """A layer that keeps a file."""

    def call(self, x):
        return x

    def save_assets(self, folder):
        with open(f"{folder}/secret.txt", "w") as file:
            file.write("secret")

    def load_assets(self, folder):
        pass


def test_assets_of_a_layer_are_not_lost_silently():
    x = keras.Input((6,))
    with pytest.raises(HiddenState, match=r"'secret' \(Secretive\) saves files of its own"):
        capture(keras.Model(x, L.Dense(3)(Secretive(name="secret")(x))))


# --- arrays that a config has for first values


def embedded(value, **options):
    first = keras.initializers.Constant(value)
    return chain(
        (5,), L.Embedding(9, 6, embeddings_initializer=first, name="layer", **options), L.Dense(4), dtype="int32"
    )


RNG = np.random.default_rng(0)
FIRST = {
    "embeddings": lambda: embedded(RNG.standard_normal((9, 6))),
    "frozen embeddings": lambda: embedded(RNG.standard_normal((9, 6)), trainable=False),
    "one row for all": lambda: embedded(RNG.standard_normal((6,))),
    "a list": lambda: embedded([[float(i)] * 6 for i in range(9)]),
    "one number for each row": lambda: embedded(RNG.standard_normal((9, 1))),
    "kernel and bias": lambda: chain(
        (5, 5, 3),
        L.Conv2D(8, 2),
        L.Conv2D(
            6, 2, name="layer", kernel_initializer=keras.initializers.Constant(RNG.standard_normal((2, 2, 8, 6))),
            bias_initializer=keras.initializers.Constant(RNG.standard_normal(6)),
        ),
        L.Conv2D(4, 1),
    ),
    "gamma": lambda: chain(
        (5,), L.Dense(6, name="layer"),
        L.BatchNormalization(gamma_initializer=keras.initializers.Constant(RNG.standard_normal(6))), L.Dense(4),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FIRST)
def test_initial_values_are_cut_with_the_weight(name, tmp_path):
    """Keras builds the layer with them before it loads its weights from a file."""
    model = FIRST[name]()
    inputs = random_inputs(model)
    smaller = rebuild(check_law(model, DeleteChannels("layer", [0, 3])).smaller)
    smaller.save(tmp_path / "smaller.keras")
    loaded = keras.models.load_model(tmp_path / "smaller.keras")
    np.testing.assert_array_equal(loaded(inputs), smaller(inputs))
