"""Edits of layers that no Keras could build are refused, and the error names the layer, the facts and the way out."""

import keras
import numpy as np
import pytest
from keras import layers as L
from keras import ops

from kerassurgery_fn import DeleteLayer, ExtractModel, InsertLayer, ReplaceLayer, SetConfig, capture, rebuild
from kerassurgery_fn.errors import MisfitTensor, UnknownCall

pytestmark = pytest.mark.keras


def reading(*shapes, layer=None):
    """A model whose layer `g` reads tensors of certain shapes."""
    inputs = [keras.Input(shape, name=f"x_{i}") for i, shape in enumerate(shapes)]
    tensors = inputs if len(inputs) > 1 else inputs[0]
    return capture(keras.Model(inputs, (layer or L.Identity(name="g"))(tensors)))


IMAGE, STEPS, OPEN = (8, 8, 4), (6, 4), (None, None)
SIZES = {
    "Dense": (L.Dense(3), OPEN, r"kernel would have the shape \(None, 3\), but a weight cannot have unknown sizes"),
    "EinsumDense": (L.EinsumDense("abc,cd->abd", (None, 3)), OPEN, "cannot have unknown sizes"),
    "LSTM": (L.LSTM(3), OPEN, "cannot have unknown sizes"),
    "PReLU": (L.PReLU(), (None, 4), r"alpha would have the shape \(None, 4\)"),
    "PReLU of axes that there are not": (L.PReLU(shared_axes=[1, 2]), (4,), "takes tensors of 3 axes or more"),
    "BatchNormalization": (L.BatchNormalization(), OPEN, "cannot have unknown sizes"),
    "LayerNormalization": (L.LayerNormalization(axis=[1, 2]), (None, 4), "cannot have unknown sizes"),
    "in TimeDistributed": (L.TimeDistributed(L.Dense(3)), (6, None), "cannot have unknown sizes"),
    "TimeDistributed": (L.TimeDistributed(L.Dense(3)), (4,), "takes tensors of 3 axes or more"),
    "Bidirectional": (L.Bidirectional(L.GRU(3)), IMAGE, "takes tensors of 3 axes"),
    "Permute": (L.Permute((2, 1)), IMAGE, "takes tensors of 3 axes"),
    "groups": (L.Conv2D(6, 1, groups=3), IMAGE, "its 3 groups do not divide 4 channels; set `groups`"),
    "groups of open channels": (L.Conv1D(6, 1, groups=3), OPEN, "3 groups cannot divide an unknown number of channels"),
    "groups inside": (L.TimeDistributed(L.Conv1D(6, 1, groups=3)), IMAGE, "its 3 groups do not divide 4"),
    "GroupNormalization": (L.GroupNormalization(3), STEPS, "its 3 groups do not divide 4"),
    "a kernel": (L.Conv2D(3, 9), IMAGE, "its kernel_size is larger than the input"),
    "a dilated kernel": (L.SeparableConv2D(3, 5, dilation_rate=2), IMAGE, "its kernel_size is larger"),
    "a pool": (L.MaxPooling1D(7), STEPS, "its pool_size is larger"),
    "a crop": (L.Cropping1D(3), STEPS, r"of shape \(None, 0, 4\), because its cropping is larger"),
    "Rescaling": (L.Rescaling([1.0, 2.0]), (6, 3), r"its scale of shape \(2,\) cannot be broadcast"),
    "Rescaling by arrays": (L.Rescaling(1.0, np.zeros((5, 3))), (6, 3), "its offset of shape"),
    "Dropout": (L.Dropout(0.2, noise_shape=(None, 1, 4)), (6, 3), "set `noise_shape`"),
    "ConvLSTM": (L.ConvLSTM1D(2, 3), (6, None, 4), "fixed sizes of all axes except batch and time"),
}  # fmt: skip


@pytest.mark.parametrize("layer, shape, words", SIZES.values(), ids=SIZES)
def test_impossible_sizes_are_refused(layer, shape, words):
    with pytest.raises(MisfitTensor, match=f"'{layer.name}'.*would be called on.*{words}"):
        InsertLayer(layer, after="g")(reading(shape))


JOINS = {
    "Concatenate": (L.Concatenate(axis=-1), [(1, 4), (6, 4)], "tensors along axis 2, which must have the same sizes"),
    "Concatenate of other ranks": (L.Concatenate(axis=-1), [(4,), (6, 4)], "have the same number of axes"),
    "Dot": (L.Dot(axes=(2, 1)), [(4,), (4,)], "sums over axis 2, which a tensor of 2 axes does not have"),
    "Dot of an open size": (L.Dot(axes=1), [(None, 4), (6, 4)], "sums over axes of sizes None and 6"),
    "Dot of three tensors": (L.Dot(axes=1), [(4,), (4,), (4,)], "multiplies two tensors, not 3"),
    "Identity": (L.Identity(), [(4,), (4,)], "passes on 2 tensors one by one, but 1 would be read"),
}  # fmt: skip


@pytest.mark.parametrize("layer, shapes, words", JOINS.values(), ids=JOINS)
def test_inputs_that_do_not_fit_together_are_refused(layer, shapes, words):
    before = L.Dot(axes=-1, name="g") if isinstance(layer, L.Dot) and len(shapes) == 2 else L.Add(name="g")
    snapshot = reading(*shapes, layer=before)
    with pytest.raises(MisfitTensor, match=words):
        ReplaceLayer("g", layer)(snapshot)


def test_the_inputs_of_later_layers_are_checked():
    x = keras.Input((None, 3))
    snapshot = capture(keras.Model(x, L.Dense(2, name="top")(L.GlobalAveragePooling1D(name="mean")(x))))
    with pytest.raises(MisfitTensor, match=r"'top' \(Dense\).*kernel would have the shape \(None, 2\)"):
        ReplaceLayer("mean", L.Flatten())(snapshot)
    x = keras.Input((4, 4, 2))
    snapshot = capture(keras.Model(x, L.Conv2D(3, 1, groups=3, name="top")(L.Dense(3, name="dense")(x))))
    with pytest.raises(MisfitTensor, match=r"'top' \(Conv2D\).*3 groups do not divide 5 channels"):
        ReplaceLayer("dense", L.Dense(5))(snapshot)
    snapshot = capture(keras.Model(x, L.Conv2D(3, 3, name="top")(x)))
    with pytest.raises(MisfitTensor, match="its kernel_size is larger than the input"):
        InsertLayer(L.MaxPooling2D(4), before="top")(snapshot)


@pytest.mark.parametrize(
    "layer", [L.Dense(3), L.BatchNormalization(), L.LayerNormalization(), L.TimeDistributed(L.Dense(3)), L.GRU(3)]
)
def test_calls_of_one_new_layer_share_its_weights(layer):
    relu, x, y = L.ReLU(name="relu"), keras.Input((3, 2)), keras.Input((3, 4))
    snapshot = capture(keras.Model([x, y], [relu(x), relu(y)]))
    with pytest.raises(MisfitTensor, match=f"'{layer.name}'.*at one call and.*of its own with calls="):
        InsertLayer(layer, after="relu")(snapshot)
    with pytest.raises(MisfitTensor, match="of its own with calls="):
        ReplaceLayer("relu", layer)(snapshot)
    one = InsertLayer(layer, after="relu", calls=[0])(snapshot)
    both = InsertLayer(layer, after="relu", calls=[1])(one)
    assert [record["class_name"] for record in both.record["config"]["layers"]].count(type(layer).__name__) == 2


def test_tensors_that_are_read_exist():
    x = keras.Input((4, 6), name="x")
    sequence, state, _ = L.LSTM(3, return_state=True, name="r")(x)
    snapshot = capture(keras.Model(x, [sequence, L.ReLU(name="top")(state)]))
    with pytest.raises(MisfitTensor, match=r"'gru' \(GRU\) would have 1 output tensor .* tensor 1 is read by 'top'"):
        ReplaceLayer("r", L.GRU(3, name="gru"))(snapshot)
    with pytest.raises(MisfitTensor, match=r"'r' .* would have 1 output tensor"):
        SetConfig("r", return_state=False)(snapshot)
    p, q = ops.split(L.Dense(6, name="d")(x), 2, axis=-1)
    snapshot = capture(keras.Model(x, [L.Dense(2)(p), q]))
    with pytest.raises(MisfitTensor, match="tensor 1 is read by an output of the model"):
        ReplaceLayer("split*", L.Dense(3))(snapshot)
    with pytest.raises(UnknownCall, match="input 'x' is one tensor, so it has no output 1"):
        ExtractModel("d", inputs="x:0:1")(snapshot)


def test_models_are_called_on_as_many_tensors_as_they_have_inputs():
    x, p, q = keras.Input((6,)), keras.Input((6,), name="p"), keras.Input((6,), name="q")
    one = capture(keras.Sequential([keras.Input((6,)), L.Dense(3)], name="one"))
    two = capture(keras.Model([p, q], L.Add()([p, q]), name="two"))
    pair = keras.Model({"p": p, "q": q}, L.Add()([p, q]), name="pair")
    y = L.Dense(6, name="dense")(x)
    snapshot = capture(keras.Model(x, L.Concatenate(name="join")([y, x])))
    named = capture(keras.Model(x, pair({"p": x, "q": y})))
    with pytest.raises(MisfitTensor, match=r"model 'one' has 1 input .* called on 2 tensors"):
        ReplaceLayer("join", one, name="one")(snapshot)
    for edit in (ReplaceLayer("dense", two), InsertLayer(two, after="dense"), InsertLayer(two, before="dense")):
        with pytest.raises(MisfitTensor, match=r"has 2 inputs \('p', 'q'\), but would be called on 1 tensor;"):
            edit(snapshot)
    with pytest.raises(MisfitTensor, match="but would be called on tensors with the names 'p', 'q'"):
        ReplaceLayer("pair", one)(named)
    assert ReplaceLayer("join", two)(snapshot).record["config"]["layers"][-1]["name"] == "two"
    assert ReplaceLayer("pair", two)(named).record["config"]["layers"][-1]["name"] == "two"


@pytest.mark.parametrize("make", [L.BatchNormalization, lambda: L.GroupNormalization(2), L.PReLU])
def test_a_layer_that_is_built_for_another_number_of_axes_is_refused(make):
    x = keras.Input((5, 4))
    snapshot = capture(keras.Model(x, L.Dense(3, name="d")(L.ReLU(name="r")(x))))
    new = make()
    new(keras.Input((4,)))
    with pytest.raises(MisfitTensor, match=r"built for tensors of 2 axes; give a layer that is not built"):
        ReplaceLayer("r", new)(snapshot)


def test_the_mask_of_a_recurrent_layer_has_two_axes():
    ids = keras.Input((5,), dtype="int32")
    snapshot = capture(keras.Model(ids, L.LSTM(3, name="l")(L.Embedding(9, 4, mask_zero=True)(ids))))
    with pytest.raises(MisfitTensor, match=r"'l' .*its mask has 2 axes, batch and time, not the shape \(None, 2, 5\)"):
        InsertLayer(L.RepeatVector(2), after="*@NotEqual")(snapshot)


def test_a_built_layer_checks_its_new_inputs():
    """Keras checks what Concatenate joins only when it builds the layer, as many other classes do."""
    x, y = keras.Input((2, 4)), keras.Input((8,))
    joined = L.Concatenate(name="join")([x, L.Reshape((2, 4), name="rows")(y)])
    snapshot = capture(keras.Model([x, y], joined))
    with pytest.raises(MisfitTensor, match=r"'join'.*\(None, 2, 4\), \(None, 8\) in place of .*\(None, 2, 4\)"):
        DeleteLayer("rows", allow_shape_change=True)(snapshot)
    own = capture(keras.Model(x, Picky(name="own")(L.Permute((2, 1), name="turned")(x))))
    with pytest.raises(MisfitTensor, match=r"'own'.*weight has the shape \(4, 2\), but would need the shape \(2, 4\)"):
        DeleteLayer("turned", allow_shape_change=True)(own)
    with pytest.raises(MisfitTensor, match="picky about that"):
        InsertLayer(L.Flatten(), before="own")(own)


@keras.saving.register_keras_serializable("tests")
class Picky(L.Layer):
    """A layer without a rule that checks what it reads when it is built."""

    def build(self, shape):
        if len(shape) != 3:
            raise ValueError("picky about that")
        self.weight = self.add_weight(shape[1:], name="weight")

    def call(self, x):
        return x * 2


def test_tensors_that_are_not_broadcast_have_the_same_shape():
    x, y = keras.Input((3, 4)), keras.Input((3, 4))
    pair = [L.Dense(1, name="d")(x), L.Dense(1)(y)]
    for joined in (ops.stack(pair, axis=1), ops.concatenate(pair, axis=1), ops.append(*pair, axis=1)):
        with pytest.raises(MisfitTensor, match=r"sizes 2 and 1 must be equal|along all other axes"):
            ReplaceLayer("d", L.Dense(2))(capture(keras.Model([x, y], joined)))


@pytest.mark.parametrize("pooling, axis", [(L.GlobalMaxPooling2D(), 2), (L.Reshape((-1, 4)), 1)])
def test_a_batch_axis_meets_no_other_axis(pooling, axis):
    x = keras.Input((6, 6, 4))
    y = L.Dense(4, name="d")(x)
    snapshot = capture(keras.Model(x, [ops.minimum(x, y), ops.add(y, 1.0)]))
    with pytest.raises(MisfitTensor, match=rf"batch axis of shape \(None,.* meet axis {axis} of shape \(None, 6, 6, 4"):
        InsertLayer(pooling, after="d")(snapshot)
    kept = InsertLayer(L.GlobalMaxPooling2D(keepdims=True), after="d")(snapshot)
    assert capture(rebuild(kept)) == kept


@pytest.mark.parametrize(
    "layer", [L.Dropout(0.1), L.ELU(), L.Activation("gelu"), L.TimeDistributed(L.Dropout(0.1)), L.Softmax()]
)
def test_integers_are_not_what_layers_of_floats_read(layer):
    x = keras.Input((3, 5), dtype="int32", name="x")
    snapshot = capture(keras.Model(x, L.Embedding(9, 4, name="e")(x)))
    with pytest.raises(MisfitTensor, match="it needs floats, but the tensor has the dtype int32"):
        InsertLayer(layer, before="e")(snapshot)
    for other in (L.ReLU(), L.Activation("relu"), L.Identity()):
        made = InsertLayer(other, before="e")(snapshot)
        assert capture(rebuild(made)) == made


@pytest.mark.parametrize("operation", [ops.sigmoid, ops.elu, ops.softmax, ops.logsumexp, ops.sparse_plus])
def test_integers_are_not_what_operations_on_floats_read(operation):
    x = keras.Input((3, 5), dtype="int32")
    made = operation(ops.cast(x, "float32"))
    cast = made._keras_history.operation._inbound_nodes[0].arguments.keras_tensors[0]._keras_history.operation.name
    with pytest.raises(MisfitTensor, match="it needs floats, but the tensor has the dtype int32"):
        DeleteLayer(cast)(capture(keras.Model(x, made)))


def test_a_merge_layer_is_built_for_tensors_of_other_ranks():
    x = keras.Input((None, None, 4))
    y = L.Reshape((1, 1, 4), name="r")(L.GlobalMaxPooling2D()(x))
    made = SetConfig("r", target_shape=(1, 4))(capture(keras.Model(x, L.Multiply(name="m")([x, y]))))
    built = made.record["config"]["layers"][-1]["build_config"]
    assert built == {"input_shape": [[None, None, None, 4], [None, 1, 4]]}
    assert rebuild(made)(np.ones((2, 5, 3, 4))).shape == (2, 5, 3, 4)


@pytest.mark.parametrize(
    "new, words",
    [
        (L.Dense(4), "1 tensor by position, not 2"), (L.Dropout(0.1), "1 tensor by position, not 2"),
        (L.Softmax(), "'mask' both by position and by name"), (L.LSTM(4), "initial_state of 2 tensors, not 1"),
        (L.GRU(4), r"initial_state has 2 axes, not the shape \(None, 3, 4\)"),
        (capture(keras.Sequential([keras.Input((3, 4)), L.Dense(4)])), "1 tensor by position, not 2"),
    ],
)  # fmt: skip
def test_a_layer_in_place_of_an_operation_accepts_its_arguments(new, words):
    x = keras.Input((3, 4))
    both = keras.Model(x, ops.multiply(L.Dense(4)(x), x))
    name = both.operations[-1].name
    with pytest.raises(MisfitTensor, match=words):
        ReplaceLayer(name, new)(capture(both))
    scaled = keras.Model(x, ops.multiply(x, 2.0))
    with pytest.raises(MisfitTensor, match=r"takes no 2\.0 by position, only tensors"):
        ReplaceLayer(scaled.operations[-1].name, new)(capture(scaled))
    attention = ReplaceLayer(name, L.MultiHeadAttention(1, 2, name="new"))(capture(both))
    assert capture(rebuild(attention)).record == attention.record


def test_layers_of_a_sequential_model_that_are_built_for_other_axes():
    """What is stated of a Sequential model is what its layers are built for, not what they read."""
    inner = [keras.Input((6,)), L.RepeatVector(2, name="r"), L.Dense(3, name="d"), L.ReLU(name="a")]
    flat = ReplaceLayer("r", L.Dense(6, name="n"))(capture(keras.Sequential(inner)))
    with pytest.raises(MisfitTensor, match=r"on a tensor of shape \(None, 6\), which it cannot take"):
        InsertLayer(L.Conv1D(6, 1), after="n")(flat)
    x = keras.Input((5, 6))
    steps = L.TimeDistributed(keras.Sequential(inner[:-1]), name="steps")(x)
    snapshot = capture(keras.Model(x, L.Conv2D(2, 1, name="top")(steps)))
    with pytest.raises(MisfitTensor, match=r"'top'.*\(None, 5, 3\) in place of .*\(None, 5, 2, 3\)"):
        ReplaceLayer("steps/r", L.Dense(6, name="n"))(snapshot)


def test_positions_are_split_into_equal_parts():
    x = keras.Input((3, 4))
    parts = capture(keras.Model(x, ops.split(x, 2, axis=-1)))
    with pytest.raises(MisfitTensor, match="axis 1 has 3 positions, which cannot be split into 2 equal parts"):
        SetConfig("split*", axis=1)(parts)


def test_axes_that_a_tensor_does_not_have():
    x = keras.Input((3, 4))
    y = L.ReLU(name="r")(x)
    for made in (ops.flip(y, 2), ops.swapaxes(y, 1, 2), L.Softmax(2)(y)):
        with pytest.raises(MisfitTensor, match=r"a tensor of 2 axes has no axis2? 2"):
            InsertLayer(L.GlobalMaxPooling1D(), after="r")(capture(keras.Model(x, made)))
    turned = capture(keras.Model(x, ops.transpose(y, (0, 2, 1))))
    with pytest.raises(MisfitTensor, match=r"axes \[0, 2, 1\] do not match a tensor with 2 axes"):
        InsertLayer(L.GlobalMaxPooling1D(), after="r")(turned)


@pytest.mark.parametrize("layer, field", [(L.Dense(3), "kernel"), (L.Embedding(5, 3), "embeddings")])
def test_weights_that_are_adapted_are_not_constrained(layer, field):
    layer.build((None, 4))
    layer.enable_lora(2)
    x = keras.Input((4,))
    snapshot = capture(keras.Model(x, layer(x)))
    with pytest.raises(MisfitTensor, match=f"LoRA.*remove `{field}_constraint`"):
        SetConfig(layer.name, **{f"{field}_constraint": keras.constraints.NonNeg()})(snapshot)
