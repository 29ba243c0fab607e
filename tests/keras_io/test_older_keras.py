"""What an older Keras writes in another way has the form of today in a snapshot, and is cut as well."""

import numpy as np
import pytest

from helpers.records import call, functional, layer, operation
from kerassurgery_fn import DeleteChannels, analyse
from kerassurgery_fn.errors import HiddenState
from kerassurgery_fn.values.snapshot import Snapshot

# --- operations that took as arguments of the call what their class takes today


def sliced():
    """Two Dense layers around `ops.slice(x, [0, 2], (batch, 5))` as Keras before 3.11 writes it."""
    slice_ = operation("Slice", "slice", module="keras.src.ops.core")
    record = functional(
        "net",
        {"x": (None, 6)},
        call(layer("Dense", "a", units=8), "x"),
        call(slice_, "a", [0, 2], [4, 5], out=(4, 5)),
        call(layer("Dense", "b", units=3), "slice"),
        outputs="b",
    )
    rng = np.random.default_rng(0)
    weights = {"a": ((6, 8), (8,)), "b": ((5, 3), (3,))}
    return Snapshot(record, {path: tuple(map(rng.normal, *[[0] * 2] * 2, shapes)) for path, shapes in weights.items()})


def test_a_slice_with_its_shape_as_call_argument():
    smaller = DeleteChannels("a", [0, 3, 6, 7])(sliced())
    (node,) = next(one for one in smaller.config["layers"] if one["config"]["name"] == "slice")["inbound_nodes"]
    assert (list(node["args"][1]), list(node["args"][2])) == ([0, 1], [4, 3])
    np.testing.assert_array_equal(smaller.weights["b"][0], sliced().weights["b"][0][[0, 2, 3]])


@pytest.mark.parametrize("name", ["ZerosLike", "OnesLike", "Array"])
def test_operations_with_their_dtype_as_call_argument(name):
    record = functional(
        "net",
        {"x": (None, 6)},
        call(layer("Dense", "a", units=8), "x"),
        call(operation(name, "filled"), "a", dtype=None, out=(None, 8)),
        call(layer("Dense", "b", units=3), "filled"),
        outputs="b",
    )
    assert not analyse(Snapshot(record, {})).opaque


def test_attention_with_its_options_as_call_arguments():
    attention = operation("DotProductAttention", "attention", module="keras.src.ops.nn", is_causal=False)
    options = {"bias": None, "mask": None, "scale": None, "flash_attention": None, "attn_logits_soft_cap": None}
    record = functional(
        "net",
        {"x": (None, 5, 2, 6)},
        call(layer("Dense", "a", units=8), "x"),
        call(attention, "a", "a", "a", **options, out=(None, 5, 2, 8)),
        outputs="attention",
    )
    assert not analyse(Snapshot(record, {})).opaque


def test_patches_with_a_number_as_size():
    config = {"size": 2, "strides": None, "dilation_rate": 1, "padding": "valid", "data_format": "channels_last"}
    patches = operation("ExtractPatches", "patches", module="keras.src.ops.image", **config)
    record = functional(
        "net",
        {"x": (None, 6, 6, 3)},
        call(layer("Dense", "a", units=4), "x"),
        call(patches, "a", out=(None, 3, 3, 16)),
        call(layer("Dense", "b", units=3), "patches"),
        outputs="b",
    )
    flow = analyse(Snapshot(record, {}))
    assert not flow.opaque
    assert flow.producer("a").axis.shape == (1, 4)


# --- the structure of inputs and outputs


@pytest.fixture(scope="module")
def model():
    import keras

    x = keras.Input((6,), name="x")
    return keras.Model(x, keras.layers.Dense(3, name="y")(x))


@pytest.mark.keras
def test_a_single_tensor_is_distinguished_from_a_list_of_one(model):
    import keras

    from kerassurgery_fn.keras_io.older_keras import with_single_tensors

    old = {"config": {"input_layers": [["x", 0, 0]], "output_layers": [["y", 0, 0]], "layers": []}}
    told = {"config": {"input_layers": ["x", 0, 0], "output_layers": ["y", 0, 0], "layers": []}}
    assert with_single_tensors(model, old) == with_single_tensors(model, told) == told
    assert with_single_tensors(keras.Model([*model.inputs], [*model.outputs]), old) == old


@pytest.mark.keras
def test_a_list_of_one_tensor_is_restored(model):
    import keras

    from kerassurgery_fn import capture
    from kerassurgery_fn.keras_io.older_keras import restore_tensor_lists

    x, y = model.inputs[0], model.outputs[0]
    single, lists = capture(keras.Model(x, y, name="net")), capture(keras.Model([x], [y], name="net"))
    for snapshot in (single, lists):
        again = keras.Model(x, y, name="net")  # as Keras before 3.11 makes it of both
        restore_tensor_lists(again, snapshot.record)
        assert capture(again) == snapshot
    assert single != lists


@pytest.mark.keras
def test_the_field_optional_is_added_to_input_layers(model):
    from kerassurgery_fn.keras_io.older_keras import add_missing_fields

    record = {"config": {"name": "x"}}
    add_missing_fields(model.layers[0], record)
    assert record == {"config": {"name": "x", "optional": False}}


# --- what an older Keras computes in another way


@pytest.mark.keras
def test_negative_attention_axes_are_refused_where_keras_rebuilds_other_axes():
    import keras

    from kerassurgery_fn import capture

    x = keras.Input((3, 4, 6))
    layer = keras.layers.MultiHeadAttention(2, 3, attention_axes=(2,), name="heads")
    model = keras.Model(x, layer(x, x))
    layer._attention_axes = (-2,)  # as it stays before 3.12
    with pytest.raises(HiddenState, match=r"'heads'.*count attention_axes from the front"):
        capture(model)
