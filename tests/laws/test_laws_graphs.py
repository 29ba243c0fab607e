"""The laws on models that are more than a chain: merges, sharing, nesting, several inputs and outputs."""

import keras
import pytest
from keras import layers as L

from helpers.laws import check_law
from helpers.needs import NEEDS_CHANNELS_FIRST
from kerassurgery_fn import DeleteChannels, analyse, capture

pytestmark = pytest.mark.keras


def read(x, units=5):
    """A Dense on top that reads every position of a tensor."""
    return L.Dense(units)(L.Flatten()(x))


# --- merges


def two_branches(merge, filters=(6, 6)):
    x = keras.Input((7, 7, 3))
    branches = [L.Conv2D(n, 3, padding="same", activation="relu")(x) for n in filters]
    return keras.Model(x, read(L.Conv2D(5, 3)(merge(branches))))


def residual():
    x = keras.Input((7, 7, 3))
    y = L.Conv2D(6, 3)(x)
    for _ in range(2):
        z = L.ReLU()(L.BatchNormalization()(L.Conv2D(8, 3, padding="same", use_bias=False)(y)))
        y = L.Add()([y, L.Conv2D(6, 1)(z)])
    return keras.Model(x, read(y))


def dense_block():
    x = keras.Input((7, 7, 3))
    y = L.Conv2D(6, 3)(x)
    for _ in range(3):
        y = L.Concatenate()([y, L.Conv2D(4, 3, padding="same")(L.ReLU()(L.BatchNormalization()(y)))])
    return keras.Model(x, read(y))


def squeeze_and_excite(keepdims):
    x = keras.Input((7, 7, 3))
    y = L.Conv2D(8, 3)(x)
    z = L.GlobalAveragePooling2D(keepdims=keepdims)(y)
    z = z if keepdims else L.Reshape((1, 1, 8))(z)
    gate = L.Conv2D(8, 1, activation="sigmoid")(L.Conv2D(4, 1, activation="relu")(z))
    return keras.Model(x, read(L.Conv2D(5, 1)(L.Multiply()([y, gate]))))


def spatial_gate():
    x = keras.Input((7, 7, 3))
    y = L.Conv2D(8, 3)(x)
    return keras.Model(x, read(L.Multiply()([y, L.Conv2D(1, 1, activation="sigmoid")(y)])))


def concatenate_along_space():
    x = keras.Input((5, 4, 3))
    y = L.Concatenate(axis=1)([L.Conv2D(6, 2)(x), L.Conv2D(6, (3, 2))(x)])
    return keras.Model(x, read(L.Conv2D(5, 2)(y)))


def concatenate_with_inputs():
    x = keras.Input((6,))
    return keras.Model(x, L.Dense(4)(L.Concatenate()([x, L.Dense(7)(x), x])))


def concatenate_then_add():
    x = keras.Input((6,))
    y = L.Concatenate()([L.Dense(4)(x), L.Dense(5)(x)])
    return keras.Model(x, L.Dense(4)(L.Add()([y, L.Dense(9, activation="relu")(x)])))


def add_of_concatenations():
    x = keras.Input((6,))
    a, b = (L.Concatenate()([L.Dense(m)(x), L.Dense(n)(x)]) for m, n in ((4, 5), (3, 6)))
    return keras.Model(x, L.Dense(4)(L.Subtract()([a, b])))


def add_with_broadcast():
    x = keras.Input((5, 6))
    return keras.Model(
        x, read(L.Dense(5)(L.Add()([L.Dense(8)(x), L.Dense(8)(L.GlobalMaxPooling1D(keepdims=True)(x))])))
    )


def add_of_different_ranks():
    x = keras.Input((5, 6))
    return keras.Model(x, read(L.Dense(5)(L.Add()([L.Dense(8)(x), L.GlobalMaxPooling1D()(L.Dense(8)(x))]))))


def dot(axes, normalize=False):
    x = keras.Input((5, 6))
    a, b = L.Dense(8)(x), L.Dense(8)(x)
    return keras.Model(x, read(L.Dot(axes=axes, normalize=normalize)([a, b])))


def dot_of_vectors():
    x = keras.Input((6,))
    return keras.Model(x, L.Dense(3)(L.Dot(axes=-1)([L.Dense(8)(x), L.Dense(8)(x)])))


def flat_and_grid():
    """A flattened image meets a Dense: its units are positions of the image, and go with their channel."""
    x = keras.Input((3, 4, 2))
    return keras.Model(x, L.Dense(4)(L.Add()([L.Flatten()(L.Conv2D(6, 1)(x)), L.Dense(72)(L.Flatten()(x))])))


MERGES = {
    "add": lambda: two_branches(L.Add()),
    "subtract": lambda: two_branches(L.Subtract()),
    "multiply": lambda: two_branches(L.Multiply()),
    "average": lambda: two_branches(L.Average()),
    "maximum": lambda: two_branches(L.Maximum()),
    "minimum": lambda: two_branches(L.Minimum()),
    "concatenate": lambda: two_branches(L.Concatenate(), (4, 7)),
    "concatenate along space": concatenate_along_space,
    "concatenate with inputs": concatenate_with_inputs,
    "concatenate then add": concatenate_then_add,
    "add of concatenations": add_of_concatenations,
    "add with broadcast": add_with_broadcast,
    "add of different ranks": add_of_different_ranks,
    "residual": residual,
    "dense block": dense_block,
    "squeeze and excite": lambda: squeeze_and_excite(keepdims=True),
    "squeeze and excite by reshape": lambda: squeeze_and_excite(keepdims=False),
    "spatial gate": spatial_gate,
    "dot over channels": lambda: dot((2, 2)),
    "dot over channels, from the end": lambda: dot(-1),
    "dot over steps": lambda: dot(1),
    "dot of vectors": dot_of_vectors,
    "flat and grid": flat_and_grid,
}


@pytest.mark.parametrize("name", MERGES)
def test_merges(name):
    check_law(MERGES[name]())


def test_a_normalised_dot_product_is_called_inexact():
    check_law(dot(2, normalize=True), inexact=True)


def test_a_dot_product_of_channels_with_steps_cuts_nothing_of_them():
    x = keras.Input((8, 6))
    y = L.Dot(axes=(2, 1))([L.Dense(8, name="a")(x), L.Dense(7, name="b")(x)])
    check_law(keras.Model(x, read(L.Dense(6)(y))))
    flow = analyse(capture(keras.Model(x, read(L.Dense(6)(y)))))
    held = flow.solution.pinned()
    assert held[flow.solution.resolve(flow.producer("a").axis)].all()
    assert not held[flow.solution.resolve(flow.producer("b").axis)].any()


# --- recurrent layers and their states


def recurrent_states(layer, states):
    x = keras.Input((5, 4))
    y, *s = layer(7, return_state=True, return_sequences=True)(x)
    assert len(s) == states
    z = layer(7)(L.Dense(6)(y), initial_state=s)
    return keras.Model(x, L.Dense(3)(L.Concatenate()([z, *s])))


def initial_state_from_dense():
    x, h = keras.Input((5, 4)), keras.Input((6,))
    state = L.Dense(7)(h)
    return keras.Model([x, h], L.Dense(3)(L.GRU(7)(x, initial_state=state)))


def initial_state_is_an_input():
    x, h = keras.Input((5, 4)), keras.Input((7,))
    return keras.Model([x, h], L.Dense(3)(L.Dense(6)(L.GRU(7)(x, initial_state=h))))


STATES = {
    "simple rnn": lambda: recurrent_states(L.SimpleRNN, 1),
    "gru": lambda: recurrent_states(L.GRU, 1),
    "lstm": lambda: recurrent_states(L.LSTM, 2),
    "from dense": initial_state_from_dense,
    "from the outside": initial_state_is_an_input,
}


@pytest.mark.parametrize("name", STATES)
def test_states_of_recurrent_layers(name):
    check_law(STATES[name]())


# --- shared layers, several inputs and outputs


def siamese():
    a, b = keras.Input((6,)), keras.Input((6,))
    encoder = L.Dense(7, activation="relu")
    return keras.Model([a, b], L.Dense(3)(L.Concatenate()([encoder(a), encoder(b)])))


def shared_on_different_channels():
    """One kernel reads two tensors: their channels live and die together."""
    x = keras.Input((6,))
    shared = L.Dense(7, activation="relu")
    return keras.Model(x, L.Dense(3)(L.Subtract()([shared(L.Dense(8)(x)), shared(L.Dense(8)(x))])))


def shared_in_a_row():
    x = keras.Input((6,))
    shared = L.Dense(8, activation="relu")
    return keras.Model(x, L.Dense(3)(shared(shared(L.Dense(8)(x)))))


def shared_norm():
    x = keras.Input((5, 5, 3))
    norm = L.BatchNormalization()
    return keras.Model(x, read(L.Add()([norm(L.Conv2D(6, 2)(x)), norm(L.Conv2D(6, 2)(x))])))


def shared_on_other_sizes():
    x = keras.Input((9, 9, 3))
    conv = L.Conv2D(6, 3, padding="same")
    small = conv(L.MaxPooling2D(3)(x))
    return keras.Model(x, L.Dense(3)(L.Concatenate()([L.Flatten()(conv(x)), L.Flatten()(small)])))


def dict_inputs():
    x = {"left": keras.Input((6,), name="left"), "right": keras.Input((4,), name="right")}
    return keras.Model(x, L.Dense(3)(L.Add()([L.Dense(7)(x["left"]), L.Dense(7)(x["right"])])))


def dict_outputs():
    x = keras.Input((6,))
    y = L.Dense(9, activation="relu")(x)
    return keras.Model(x, {"b": L.Dense(3)(y), "a": L.Dense(2)(L.Dense(5)(y))})


def list_of_one():
    x = keras.Input((6,))
    return keras.Model([x], [L.Dense(3)(L.Dense(7)(x))])


def nested_lists():
    a, b, c = (keras.Input((n,)) for n in (4, 5, 6))
    y = L.Concatenate()([L.Dense(6)(a), L.Dense(7)(b)])
    return keras.Model([a, [b, c]], [L.Dense(3)(y), {"z": L.Dense(2)(L.Add()([L.Dense(5)(y), L.Dense(5)(c)]))}])


def inner_tensor_is_an_output():
    x = keras.Input((6,))
    y = L.Dense(7)(x)
    return keras.Model(x, [y, L.Dense(3)(L.Dense(8)(y))])


def same_output_twice():
    x = keras.Input((6,))
    y = L.Dense(3)(L.Dense(7)(x))
    return keras.Model(x, [y, y])


def named_arguments():
    x = keras.Input((6, 4))
    y = L.LSTM(5, return_sequences=True)(sequences=L.Activation("relu")(inputs=L.Dense(8)(inputs=x)))
    y = L.MultiHeadAttention(2, 3)(value=y, query=L.Concatenate()(inputs=[y, L.Dense(3)(training=False, inputs=x)]))
    return keras.Model(x, L.Dense(3)(inputs=L.Flatten()(inputs=L.BatchNormalization()(inputs=y))))


SHARED = {
    "siamese": siamese,
    "on different channels": shared_on_different_channels,
    "in a row": shared_in_a_row,
    "a norm": shared_norm,
    "on other sizes": shared_on_other_sizes,
}
STRUCTURES = {
    "dict of inputs": dict_inputs,
    "dict of outputs": dict_outputs,
    "list of one": list_of_one,
    "nested lists": nested_lists,
    "an inner tensor is an output": inner_tensor_is_an_output,
    "the same output twice": same_output_twice,
}


@pytest.mark.parametrize("name", SHARED)
def test_shared_layers(name):
    check_law(SHARED[name]())


@pytest.mark.parametrize("name", STRUCTURES)
def test_structures_of_inputs_and_outputs(name):
    check_law(STRUCTURES[name]())


def test_arguments_may_be_given_by_name():
    assert check_law(named_arguments()).prunable > 0.8


# --- nested models


def backbone(shape=(7, 7, 3), name="backbone"):
    x = keras.Input(shape)
    y = L.ReLU()(L.BatchNormalization()(L.Conv2D(8, 3, padding="same")(x)))
    return keras.Model(x, L.Add()([y, L.Conv2D(8, 1)(y)]), name=name)


def tower():
    return keras.Sequential([keras.Input((7, 7, 3)), L.Conv2D(6, 3), L.BatchNormalization(), L.ReLU()], name="tower")


def nested(inner):
    x = keras.Input((7, 7, 3))
    return keras.Model(x, read(L.Conv2D(5, 3)(inner(x))))


def nested_in_sequential(inner):
    return keras.Sequential([keras.Input((7, 7, 3)), inner, L.Conv2D(5, 3), L.Flatten(), L.Dense(4)])


def nested_twice(inner):
    a, b = keras.Input((7, 7, 3)), keras.Input((7, 7, 3))
    return keras.Model([a, b], read(L.Conv2D(5, 3)(L.Subtract()([inner(a), inner(b)]))))


def nested_in_a_row():
    x = keras.Input((7, 7, 3))
    block = backbone((7, 7, 8), "block")
    return keras.Model(x, read(block(L.ReLU()(block(L.Conv2D(8, 1)(x))))))


def nested_twice_on_different_channels():
    x = keras.Input((7, 7, 3))
    block = backbone((7, 7, 6), "block")
    return keras.Model(x, read(L.Maximum()([block(L.Conv2D(6, 1)(x)), block(L.Conv2D(6, 3, padding="same")(x))])))


def two_deep(levels=2):
    inner = backbone((7, 7, 6), "innermost")
    for level in range(levels):
        x = keras.Input((7, 7, 6))
        inner = keras.Model(x, L.Conv2D(6, 1)(inner(L.Conv2D(6, 1)(x))), name=f"level_{level}")
    x = keras.Input((7, 7, 3))
    return keras.Model(x, read(inner(L.Conv2D(6, 1)(x))))


def nested_with_several_tensors():
    a, b = keras.Input((6,)), keras.Input((5,))
    y = L.Dense(7)(L.Concatenate()([a, b]))
    inner = keras.Model([a, b], [y, L.Dense(6)(y)], name="inner")
    x = keras.Input((4,))
    p, q = inner([L.Dense(6)(x), L.Dense(5)(x)])
    return keras.Model(x, L.Dense(3)(L.Concatenate()([q, p])))


def nested_with_dicts():
    given = {"b": keras.Input((6,), name="b"), "a": keras.Input((5,), name="a")}
    y = L.Dense(7)(L.Concatenate()([given["a"], given["b"]]))
    inner = keras.Model(given, {"z": y, "y": L.Dense(6)(y)}, name="inner")
    x = keras.Input((4,))
    made = inner({"a": L.Dense(5)(x), "b": L.Dense(6)(x)})
    return keras.Model(x, L.Dense(3)(L.Concatenate()([made["z"], made["y"]])))


def nested_that_passes_its_input():
    x = keras.Input((6,))
    inner = keras.Model(x, [x, L.Dense(5)(x)], name="inner")
    z = keras.Input((4,))
    p, q = inner(L.Dense(6)(z))
    return keras.Model(z, L.Dense(3)(L.Concatenate()([p, q])))


def nested_on_other_sizes():
    """A nested model of any image size is called on two of them."""
    x = keras.Input((None, None, 3))
    inner = keras.Model(x, L.Conv2D(6, 3, padding="same")(x), name="inner")
    z = keras.Input((8, 8, 3))
    flat = [L.Flatten()(inner(t)) for t in (z, L.MaxPooling2D(2)(z))]
    return keras.Model(z, L.Dense(3)(L.Concatenate()(flat)))


NESTED = {
    "functional": lambda: nested(backbone()),
    "sequential": lambda: nested(tower()),
    "functional in sequential": lambda: nested_in_sequential(backbone()),
    "sequential in sequential": lambda: nested_in_sequential(tower()),
    "functional twice": lambda: nested_twice(backbone()),
    "sequential twice": lambda: nested_twice(tower()),
    "in a row": nested_in_a_row,
    "twice on different channels": nested_twice_on_different_channels,
    "in a model in a model": two_deep,
    "several inputs and outputs": nested_with_several_tensors,
    "dicts": nested_with_dicts,
    "its input is its output": nested_that_passes_its_input,
    "on other sizes": nested_on_other_sizes,
}


@pytest.mark.parametrize("name", NESTED)
def test_nested_models(name):
    check_law(NESTED[name]())


# --- data formats, dtypes, frozen layers


def image_net(data_format):
    """Images wider than they have channels: where both are equal, Keras adds a channels_first bias along the width."""
    kwargs = {"data_format": data_format}
    axis = 1 if data_format == "channels_first" else -1
    x = keras.Input((3, 18, 17) if axis == 1 else (18, 17, 3))
    y = L.Conv2D(6, 3, name="a", **kwargs)(x)
    y = L.ReLU()(L.BatchNormalization(axis=axis, name="norm")(y))
    y = L.DepthwiseConv2D(3, depth_multiplier=2, padding="same", name="depthwise", **kwargs)(y)
    z = L.SeparableConv2D(8, 3, padding="same", name="separable", **kwargs)(y)
    y = L.Concatenate(axis=axis)([z, L.Conv2D(5, 1, name="b", **kwargs)(y)])
    y = L.UpSampling2D(2, **kwargs)(L.MaxPooling2D(2, padding="same", **kwargs)(y))
    y = L.Cropping2D(1, **kwargs)(L.ZeroPadding2D(((1, 2), (0, 1)), **kwargs)(y))
    y = L.Conv2DTranspose(6, 3, strides=2, name="transpose", **kwargs)(y)
    y = L.AveragePooling2D(2, **kwargs)(L.SpatialDropout2D(0.5, **kwargs)(y))
    y = L.Concatenate()([L.GlobalMaxPooling2D(**kwargs)(y), L.Flatten(**kwargs)(L.Conv2D(4, 9, name="c", **kwargs)(y))])
    return keras.Model(x, L.Dense(5, name="top")(y))


@pytest.mark.parametrize("data_format", ["channels_last", pytest.param("channels_first", marks=NEEDS_CHANNELS_FIRST)])
def test_data_formats(data_format):
    check_law(image_net(data_format))


@pytest.mark.onednn
def test_channels_first_is_cut_like_channels_last():
    models = [image_net(data_format) for data_format in ("channels_last", "channels_first")]
    dead = {"a": [1, 4], "separable": [0, 7], "b": [2], "transpose": [0, 3], "c": [1]}
    last, first = (DeleteChannels(dead)(capture(model)) for model in models)
    assert [[a.shape for a in arrays] for arrays in last.weights.values()] == [
        [a.shape for a in arrays] for arrays in first.weights.values()
    ]


def test_mixed_precision():
    """bfloat16 has three digits: the weights stay float32, and so does what the policy says of each layer."""
    x = keras.Input((7, 7, 3))
    policy = {"dtype": "mixed_bfloat16"}
    y = L.ReLU(**policy)(L.BatchNormalization(**policy)(L.Conv2D(8, 3, **policy)(x)))
    model = keras.Model(x, L.Dense(5, dtype="float32")(L.Flatten(**policy)(L.Conv2D(6, 3, **policy)(y))))
    check_law(model, tolerance=0.02, visible=0.05)


@pytest.mark.parametrize("dtype", ["float64", "bfloat16", "float16"])
def test_other_floats(dtype):
    x = keras.Input((7, 7, 3), dtype=dtype)
    y = L.ReLU(dtype=dtype)(L.BatchNormalization(dtype=dtype)(L.Conv2D(8, 3, dtype=dtype)(x)))
    tolerance = {"float64": 1e-6, "bfloat16": 0.1, "float16": 0.02}[dtype]
    check_law(keras.Model(x, L.Dense(5, dtype=dtype)(L.Flatten(dtype=dtype)(y))), tolerance=tolerance, visible=0.3)


def test_frozen_layers_stay_frozen():
    x = keras.Input((7, 7, 3))
    inner = backbone()
    inner.trainable = False
    frozen = L.Conv2D(6, 3, trainable=False, name="frozen")
    model = keras.Model(x, read(frozen(inner(x))))
    smaller = check_law(model).smaller
    layers = {layer["name"]: layer for layer in smaller.config["layers"]}
    assert layers["frozen"]["config"]["trainable"] is False
    assert layers["backbone"]["config"]["trainable"] is False
