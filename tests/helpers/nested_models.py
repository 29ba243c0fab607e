"""Small models with shared layers, nested models, several inputs and outputs, by name."""

import keras
from keras import layers as L

from helpers.small_models import dense_head


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
    return keras.Model(x, dense_head(L.Add()([norm(L.Conv2D(6, 2)(x)), norm(L.Conv2D(6, 2)(x))])))


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


def backbone(shape=(7, 7, 3), name="backbone"):
    x = keras.Input(shape)
    y = L.ReLU()(L.BatchNormalization()(L.Conv2D(8, 3, padding="same")(x)))
    return keras.Model(x, L.Add()([y, L.Conv2D(8, 1)(y)]), name=name)


def tower():
    return keras.Sequential([keras.Input((7, 7, 3)), L.Conv2D(6, 3), L.BatchNormalization(), L.ReLU()], name="tower")


def nested(inner):
    x = keras.Input((7, 7, 3))
    return keras.Model(x, dense_head(L.Conv2D(5, 3)(inner(x))))


def nested_in_sequential(inner):
    return keras.Sequential([keras.Input((7, 7, 3)), inner, L.Conv2D(5, 3), L.Flatten(), L.Dense(4)])


def nested_twice(inner):
    a, b = keras.Input((7, 7, 3)), keras.Input((7, 7, 3))
    return keras.Model([a, b], dense_head(L.Conv2D(5, 3)(L.Subtract()([inner(a), inner(b)]))))


def nested_in_a_row():
    x = keras.Input((7, 7, 3))
    block = backbone((7, 7, 8), "block")
    return keras.Model(x, dense_head(block(L.ReLU()(block(L.Conv2D(8, 1)(x))))))


def nested_twice_on_different_channels():
    x = keras.Input((7, 7, 3))
    block = backbone((7, 7, 6), "block")
    return keras.Model(x, dense_head(L.Maximum()([block(L.Conv2D(6, 1)(x)), block(L.Conv2D(6, 3, padding="same")(x))])))


def two_deep(levels=2):
    inner = backbone((7, 7, 6), "innermost")
    for level in range(levels):
        x = keras.Input((7, 7, 6))
        inner = keras.Model(x, L.Conv2D(6, 1)(inner(L.Conv2D(6, 1)(x))), name=f"level_{level}")
    x = keras.Input((7, 7, 3))
    return keras.Model(x, dense_head(inner(L.Conv2D(6, 1)(x))))


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
