"""Arrays of variables and tensors of arrays: memory is shared where it never changes, and copied where it may."""

import keras
import ml_dtypes
import numpy as np
import pytest
from keras import layers as L

from kerassurgery_fn import Snapshot, capture, rebuild
from kerassurgery_fn.keras_io.weight_arrays import arrays_of, tensor_of

pytestmark = pytest.mark.keras

tensorflow_only = pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="TensorFlow's tensors are shared")
TOKENS = np.random.default_rng(0).integers(0, 50, (16, 5))
TARGETS = np.random.default_rng(1).standard_normal((16, 1))


def trainable_model(optimizer="sgd", jit_compile=False):
    parts = [L.Embedding(50, 8), L.Conv1D(16, 3), L.BatchNormalization(), L.Flatten(), L.Dense(300), L.Dense(1)]
    model = keras.Sequential([keras.Input((5,), dtype="int32"), *parts])
    model.compile(optimizer, "mse", jit_compile=jit_compile)
    return model


def copies(snapshot):
    return {path: [array.copy() for array in arrays] for path, arrays in snapshot.weights.items()}


def changes(snapshot, before):
    return [
        path
        for path, arrays in before.items()
        if not all(np.array_equal(a, b) for a, b in zip(arrays, snapshot.weights[path], strict=True))
    ]


# --- variables -> arrays


@pytest.mark.parametrize("optimizer, jit_compile", [("momentum", False), ("momentum", True), ("adam", False)])
def test_training_does_not_change_a_snapshot(optimizer, jit_compile):
    optimizer = keras.optimizers.SGD(0.1, momentum=0.9) if optimizer == "momentum" else optimizer
    model = trainable_model(optimizer, jit_compile)
    for _ in range(2):  # the second time, the optimizer has variables, and they are part of the snapshot
        snapshot = capture(model)
        before, training = copies(snapshot), snapshot.training and [array.copy() for array in snapshot.training.values]
        model.fit(TOKENS, TARGETS, verbose=0)
        assert changes(snapshot, before) == []
        assert changes(capture(model), before) == list(before)
        if training:
            assert all(map(np.array_equal, training, snapshot.training.values))


@tensorflow_only
def test_assignments_to_parts_of_variables_do_not_change_a_snapshot():
    import tensorflow as tf

    model = trainable_model()
    table = model.layers[0].embeddings.value
    for _ in range(2):  # after a sparse assignment, TensorFlow copies a variable when it is read
        snapshot = capture(model)
        before = copies(snapshot)
        for variable in model.weights:
            variable.value.assign_add(tf.ones(variable.shape))
        table.scatter_add(tf.IndexedSlices(tf.ones((1, 8)), [3]))
        table.scatter_nd_update([[0, 0]], [5.0])
        table[3:5].assign(tf.zeros((2, 8)))
        assert changes(snapshot, before) == []
        assert changes(capture(model), before) == list(before)


@tensorflow_only
def test_two_snapshots_of_a_model_share_memory():
    model = trainable_model()
    first, second = capture(model), capture(model)
    for path, arrays in first.weights.items():
        for a, b in zip(arrays, second.weights[path], strict=True):
            assert np.shares_memory(a, b)
            assert not a.flags.writeable


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "float64", "int8", "int32", "bool"])
@pytest.mark.parametrize("shape", [(), (3, 2)])
def test_arrays_have_the_dtypes_and_the_shapes_of_their_variables(dtype, shape):
    variable = keras.Variable(np.ones(shape), dtype=dtype, trainable=False)
    (array,) = arrays_of([variable])
    assert (array.dtype, array.shape, array.tolist()) == (np.dtype(dtype), shape, np.ones(shape, dtype).tolist())


# --- arrays -> tensors

ARRAYS = {
    "unaligned": np.arange(25, dtype="float32")[1:],
    "in other order": np.arange(24, dtype="float32").reshape(2, 3, 4).transpose(2, 0, 1),
    "every second": np.arange(24, dtype="float64")[::2],
    "backwards": np.arange(24, dtype="float16")[::-1],
    "other byte order": np.arange(4, dtype=">f4"),
    "empty": np.zeros((0, 3), "float32"),
    "scalar": np.array(2.5, "float32"),
    "integers": np.arange(4, dtype="int8"),
    "truth values": np.array([True, False]),
    "bfloat16": np.arange(4).astype(ml_dtypes.bfloat16),
    "long": np.arange(1_000_000, dtype="float32"),
}


@pytest.mark.parametrize("array", ARRAYS.values(), ids=ARRAYS)
def test_a_tensor_has_the_values_of_its_array(array):
    tensor = tensor_of(array, array.dtype.name)
    assert (keras.backend.standardize_dtype(tensor.dtype), tuple(tensor.shape)) == (array.dtype.name, array.shape)
    assert np.array_equal(keras.ops.convert_to_numpy(tensor), array)


def test_a_tensor_can_have_another_dtype_than_its_array():
    tensor = tensor_of(np.array([1.5, 2.5]), "float32")
    assert keras.backend.standardize_dtype(tensor.dtype) == "float32"
    assert keras.ops.convert_to_numpy(tensor).tolist() == [1.5, 2.5]


@pytest.mark.parametrize("start", range(0, 17, 4))  # at a multiple of 64 bytes, TensorFlow could share the memory
def test_a_tensor_shares_no_memory_with_its_array(start):
    array = np.zeros(1017, "float32")[start : start + 1000]
    tensor = tensor_of(array, "float32")
    array += 1
    assert not keras.ops.convert_to_numpy(tensor).any()


def test_training_a_rebuilt_model_does_not_change_its_snapshot():
    captured = capture(trainable_model())
    for snapshot in (captured, Snapshot(captured.record, copies(captured))):
        before = copies(snapshot)
        model = rebuild(snapshot)
        assert changes(capture(model), before) == []
        for variable in model.weights:
            variable.assign_add(np.ones(variable.shape))
        model.fit(TOKENS, TARGETS, verbose=0)
        assert changes(snapshot, before) == []
        assert changes(capture(model), before) == list(before)
