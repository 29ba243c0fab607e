"""What records.py writes by hand is what Keras writes."""

import numpy as np
import pytest

from helpers.older import IS_OLDER
from helpers.records import call, constant, functional, layer, operation, sequential

pytestmark = [
    pytest.mark.keras,
    pytest.mark.skipif(IS_OLDER, reason="records written by hand are as Keras writes them today"),
]


def written_by_keras(model):
    from kerassurgery_fn import capture

    return {key: part for key, part in capture(model).record.items() if key != "compile_config"}


def test_a_sequential_model():
    import keras
    from keras import layers

    model = keras.Sequential(
        [
            keras.Input((5, 5, 2), name="net_input"),
            layers.Conv2D(4, 2, groups=2, name="conv"),
            layers.DepthwiseConv2D(2, depth_multiplier=2, name="deep"),
            layers.BatchNormalization(name="norm"),
            layers.ReLU(name="relu"),
            layers.MaxPooling2D(name="pool"),
            layers.Flatten(name="flat"),
            layers.Dropout(0.5, name="drop"),
            layers.Dense(6, name="dense", activation="relu"),
            layers.Reshape((3, 2), name="grid"),
            layers.LSTM(4, name="lstm"),
        ],
        name="net",
    )
    assert written_by_keras(model) == sequential(
        "net",
        (None, 5, 5, 2),
        layer("Conv2D", "conv", filters=4, groups=2),
        layer("DepthwiseConv2D", "deep", depth_multiplier=2),
        layer("BatchNormalization", "norm"),
        layer("ReLU", "relu"),
        layer("MaxPooling2D", "pool"),
        layer("Flatten", "flat"),
        layer("Dropout", "drop"),
        layer("Dense", "dense", units=6, activation="relu"),
        layer("Reshape", "grid", target_shape=[3, 2]),
        layer("LSTM", "lstm", units=4),
    )


def test_a_functional_model_with_shared_layers_nested_models_and_operations():
    import keras
    from keras import layers

    p, q = keras.Input((4,), name="p"), keras.Input((4,), name="q")
    inner = keras.Model([p, q], [layers.Dense(3, name="out")(p), layers.Add(name="sum")([p, q])], name="inner")
    tail = keras.Sequential([keras.Input((3,), name="tail_input"), layers.Dense(2, name="out")], name="tail")
    x, y = keras.Input((6,), name="x"), keras.Input((6,), name="y")
    shared = layers.Dense(4, name="shared")
    a, b = shared(x), shared(y)
    first, second = inner([a, b]), inner([b, a])
    cat = layers.Concatenate(name="cat")([tail(first[0]), second[0]])
    doubled = keras.ops.multiply(cat, 2.0)
    scaled = keras.ops.multiply(doubled, np.arange(5, dtype="float32"))
    model = keras.Model({"x": x, "y": y}, {"z": scaled, "s": second[1]}, name="net")
    names = [operation.name for operation in model.operations if operation.name.startswith("multiply")]

    nested = functional(
        "inner",
        {"p": (None, 4), "q": (None, 4)},
        call(layer("Dense", "out", units=3), "p"),
        call(layer("Add", "sum"), ["p", "q"]),
        outputs=["out", "sum"],
    )
    expected = functional(
        "net",
        {"y": (None, 6), "x": (None, 6)},
        call(layer("Dense", "shared", units=4), "x"),
        call("shared", "y"),
        call(nested, ["shared", ("shared", 1, 0)], mask=[None, None]),
        call("inner", [("shared", 1, 0), "shared"], mask=[None, None]),
        call(sequential("tail", (None, 3), layer("Dense", "out", units=2)), "inner", mask=None),
        call(layer("Concatenate", "cat"), ["tail", ("inner", 1, 0)]),
        call(operation("Multiply", names[0]), "cat", 2.0, out=(None, 5)),
        call(operation("Multiply", names[1]), names[0], constant(np.arange(5.0)), out=(None, 5)),
        outputs={"z": names[1], "s": ("inner", 1, 1)},
        feeds={"x": "x", "y": "y"},
    )
    assert without_compile_config(written_by_keras(model)) == expected


def without_compile_config(record):
    """The record with the compile_config of nested models left out, which capture may or may not write."""
    if isinstance(record, dict):
        return {key: without_compile_config(part) for key, part in record.items() if key != "compile_config"}
    return [without_compile_config(part) for part in record] if isinstance(record, list) else record


@pytest.mark.parametrize("alone", [True, False])
def test_one_input_and_output_alone_or_in_a_list(alone):
    import keras

    x = keras.Input((6,), name="x")
    y = keras.layers.Dense(2, name="y")(x)
    model = keras.Model(x, y, name="net") if alone else keras.Model([x], [y], name="net")
    dense = call(layer("Dense", "y", units=2), "x")
    ends = {"feeds": "x", "outputs": "y"} if alone else {"feeds": ["x"], "outputs": ["y"]}
    assert written_by_keras(model) == functional("net", {"x": (None, 6)}, dense, **ends)
