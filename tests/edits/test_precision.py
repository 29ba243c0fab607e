"""Layers in another precision: policies, weights, and the dtypes of all tensors."""

import pickle

import keras
import ml_dtypes
import numpy as np
import pytest
from keras import layers as L
from keras import ops

from helpers.laws import differences
from helpers.pictures import chain, nested
from kerassurgery_fn import capture, rebuild
from kerassurgery_fn.edits import ConvertDtype, DeleteLayer, ReplaceLayer, SetConfig
from kerassurgery_fn.edits.plan import Plan
from kerassurgery_fn.errors import BadValue


def dtypes(snapshot):
    return {array.dtype.name for arrays in snapshot.weights.values() for array in arrays}


def test_weights_are_of_the_policys_dtype():
    for policy, dtype in (("float16", "float16"), ("bfloat16", "bfloat16"), ("mixed_float16", "float32")):
        made = ConvertDtype(policy)(nested())
        assert dtypes(made) == {dtype}
        assert f"'name': '{policy}'" in str(made.record)
        assert "'name': 'float32'" not in str(made.record)


def test_only_selected_layers_are_converted():
    made = ConvertDtype("float16", "[ab]")(chain())
    assert {path: arrays[0].dtype.name for path, arrays in made.weights.items()} == {
        "a": "float16", "b": "float16", "c": "float32",
    }  # fmt: skip


def test_there_and_back_is_the_identity():
    for before in (chain(), nested()):
        kept = pickle.loads(pickle.dumps(before))
        assert Plan(ConvertDtype("float64"), ConvertDtype("float32"))(before) == before == kept
        assert ConvertDtype("float32")(before) == before


def test_the_optimizer_state_follows_the_dtype():
    before = chain(training=True)
    assert ConvertDtype("mixed_bfloat16")(before).training == before.training
    assert ConvertDtype("float16", "a")(before).training.by_owner().keys() == {
        owner for owner in before.training.slots if owner is None or owner[0] != "a"
    }


def test_an_invalid_policy_is_refused():
    with pytest.raises(BadValue, match="cannot be converted to 'int8'; the dtypes are float16"):
        ConvertDtype("int8")


# --- held against Keras


@pytest.mark.keras
@pytest.mark.parametrize("policy", ["float16", "bfloat16", "float64", "mixed_float16", "mixed_bfloat16"])
@pytest.mark.parametrize("name", ["plain", "siamese", "nested", "row", "recurrent", "operators"])
def test_the_record_is_what_keras_writes(name, policy):
    import keras

    from helpers.edited_models import computed
    from helpers.laws import compute, differences
    from helpers.running import remember
    from kerassurgery_fn import capture, rebuild

    before, inputs, truth = computed(name)
    made = ConvertDtype(policy)(before)
    again = remember(made, rebuild(made))
    assert differences(capture(again).record, made.record) == []
    assert capture(again) == made
    results = zip(compute(made, inputs), truth, strict=True)
    rough = {"float16": 0.05, "float64": 1e-4, "mixed_float16": 0.05}.get(policy, 0.3)
    assert all(np.abs(a - b).max() < rough * np.abs(b).max() for a, b in results)
    kept = {"mixed_float16": "float32", "mixed_bfloat16": "float32"}.get(policy, policy)
    assert {weight.dtype for weight in again.trainable_variables} == {kept}
    assert keras.backend.standardize_dtype(made.weights[next(iter(made.weights))][0].dtype) == kept


@pytest.mark.keras
def test_quantized_layers_are_refused():
    import keras
    from keras import layers as L

    from kerassurgery_fn import capture

    model = keras.Sequential([keras.Input((4,)), L.Dense(4, name="a")])
    model.quantize("int8")
    with pytest.raises(BadValue, match="'a' is quantized"):
        ConvertDtype("float16")(capture(model))


def test_bfloat16_weights_are_numpy_arrays():
    assert ConvertDtype("bfloat16")(chain()).weights["a"][0].dtype == ml_dtypes.bfloat16


CASTS = [("int32", "bool"), ("int32", "float32"), ("float32", "int32"), ("int8", "int32")]


@pytest.mark.keras
@pytest.mark.parametrize("before, after", CASTS)
def test_tensors_that_are_of_another_dtype_after_an_edit(before, after):
    x = keras.Input((4,), dtype=before)
    y = ops.cast(x, after)
    made = [
        ops.expand_dims(y, 1), ops.flip(y, -1), y[:, 1:], ops.zeros_like(y), ops.pad(y, ((0, 0), (1, 1))),
        ops.concatenate([y, y], -1), ops.stack([y, x]), ops.maximum(y, y), ops.add(y, x), ops.equal(y, y),
        ops.multiply(y, 2), ops.multiply(y, 2.5), ops.where(y > 0, y, 0.5), ops.where(y > 0, y, y),
        L.Flatten()(y), L.Reshape((2, 2))(y), L.Identity()(y),
    ]  # fmt: skip
    snapshot = capture(keras.Model(x, [ops.isfinite(tensor) for tensor in made]))
    without = DeleteLayer(y._keras_history.operation.name)(snapshot)
    assert differences(without.record, capture(rebuild(without)).record) == []


@pytest.mark.keras
def test_a_layer_in_place_of_an_operation_makes_tensors_of_its_own_dtype():
    x = keras.Input((4,))
    positive = ops.greater(x, 0.0)
    snapshot = capture(keras.Model(x, L.Identity()(ops.convert_to_tensor(positive))))
    after = ReplaceLayer("convert_to_tensor*", L.Rescaling(0.5))(snapshot)
    assert differences(after.record, capture(rebuild(after)).record) == []


@pytest.mark.keras
def test_a_sequential_model_casts_to_the_dtype_of_its_input():
    x = keras.Input((4,))
    inner = keras.Sequential([keras.Input((4,)), L.Dense(2)], name="inner")
    snapshot = capture(keras.Model(x, inner(L.ReLU(dtype="bfloat16", name="r")(x))))
    for edit in (ConvertDtype("float32", "r"), ConvertDtype("bfloat16", "inner"), DeleteLayer("r")):
        after = edit(snapshot)
        assert differences(after.record, capture(rebuild(after)).record) == []


@pytest.mark.keras
def test_a_sequential_model_stays_one_where_a_layer_casts_no_more():
    layers = [L.Dense(4, dtype="float64", name="a"), L.LSTM(3, dtype="float64", name="b")]
    before = capture(keras.Sequential([keras.Input((5, 4)), *layers]))
    after = ReplaceLayer("a", L.Dropout(0.1, name="c"))(before)
    assert after.record["class_name"] == "Sequential"


@pytest.mark.keras
@pytest.mark.parametrize("optimizer", [keras.optimizers.Adam, lambda: keras.optimizers.SGD(momentum=0.9)])
def test_the_optimizer_of_a_sequential_model_scales_the_loss_in_mixed_precision(optimizer):
    model = keras.Sequential([keras.Input((4,)), L.Dense(3, name="a"), L.Dense(2)])
    model.compile(optimizer(), "mse", run_eagerly=True)
    model.fit(np.ones((2, 4)), np.ones((2, 2)), verbose=0)
    before = capture(model)
    mixed = ConvertDtype("mixed_float16")(before)
    assert capture(rebuild(mixed)) == mixed
    assert mixed.training != before.training
    assert ConvertDtype("float32")(mixed) == before


@pytest.mark.keras
@pytest.mark.parametrize("layer", [L.RMSNormalization(name="n"), L.LayerNormalization(name="n")])
def test_axes_are_a_list_once_a_layer_is_built(layer):
    snapshot = capture(keras.Sequential([keras.Input((4,)), layer]))
    assert SetConfig("n", axis=-1, epsilon=0.1)(snapshot).record["config"]["layers"][-1]["config"]["axis"] == [-1]
