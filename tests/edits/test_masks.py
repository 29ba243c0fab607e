"""Masks after edits: a model's calls state the masks that Keras finds for the same model built by hand."""

import keras
import numpy as np
import pytest
from keras import layers as L
from keras.src.utils.naming import reset_uids

from helpers.laws import compute, deviation, randomise
from kerassurgery_fn import (
    ConvertDtype,
    DeleteChannels,
    DeleteLayer,
    ExtractModel,
    InsertLayer,
    Plan,
    RenameLayer,
    ReplaceLayer,
    SetConfig,
    SetTrainable,
    capture,
    rebuild,
)
from kerassurgery_fn.errors import MisfitTensor, NothingLeft

pytestmark = pytest.mark.keras


def embedding(mask_zero=True):
    return L.Embedding(9, 6, mask_zero=mask_zero, name="embedding")


def masking(value=0.0):
    return L.Masking(value, name="masking")


def dense():
    return L.Dense(6, name="dense")


def conv():
    return L.Conv1D(6, 1, name="conv")  # drops masks


def inner():
    q = keras.Input((None, 6), name="q")
    return keras.Model(q, L.Dense(4, name="step")(q), name="inner")


def last(dtype="float32"):
    return L.GlobalAveragePooling1D(dtype=dtype, name="last")


def both():
    return L.Bidirectional(L.SimpleRNN(3, return_sequences=True, name="one"), name="both")


def row(*layers):
    """Layers one after the other, the operations of their masks numbered from the first."""
    reset_uids()
    ids = isinstance(layers[0], L.Embedding)
    x = y = keras.Input((7,), dtype="int32", name="x") if ids else keras.Input((7, 6), name="x")
    for layer in layers if layers[-1].name == "last" else [*layers, last()]:
        y = layer(y)
    return keras.Model(x, y, name="row")


def join(mask_zero, layer):
    reset_uids()
    x = keras.Input((7,), dtype="int32", name="x")
    y = embedding(mask_zero)(x)
    return keras.Model(x, last()(layer([y, dense()(y)])), name="join")


def given_by_hand(mask_zero):
    reset_uids()
    x = keras.Input((7,), dtype="int32", name="x")
    mask = keras.ops.greater(x, 3)
    return keras.Model(x, last()(embedding(mask_zero)(x), mask=mask), name="by_hand")


def off(make):
    return SetConfig("embedding", mask_zero=False), lambda: make(True), lambda: make(False)


def on(make):
    return SetConfig("embedding", mask_zero=True), lambda: make(False), lambda: make(True)


EDITS = {
    "an embedding that masks no more": off(lambda mask: row(embedding(mask), dense())),
    "an embedding before a nested model that masks no more": off(lambda mask: row(embedding(mask), inner())),
    "no Masking": (DeleteLayer("masking"), lambda: row(masking(), dense()), lambda: row(dense())),
    "something else for Masking": (
        ReplaceLayer("masking", L.ReLU(name="relu")), lambda: row(masking(), dense()),
        lambda: row(L.ReLU(name="relu"), dense()),
    ),
    "another Masking": (ReplaceLayer("masking", masking(2.0)), lambda: row(masking()), lambda: row(masking(2.0))),
    "what drops masks comes": (
        InsertLayer(conv(), before="last"), lambda: row(embedding()), lambda: row(embedding(), conv()),
    ),
    "what drops masks goes": (DeleteLayer("conv"), lambda: row(embedding(), conv()), lambda: row(embedding())),
    "an embedding that masks": on(lambda mask: row(embedding(mask), dense(), both())),
    "an embedding that masks a nested model": on(lambda mask: row(embedding(mask), inner())),
    "Masking before a nested model": (
        InsertLayer(masking(2.0), before="inner"), lambda: row(dense(), inner()),
        lambda: row(dense(), masking(2.0), inner()),
    ),
    "another embedding": (
        ReplaceLayer("embedding", embedding()), lambda: row(embedding(False)), lambda: row(embedding()),
    ),
    "masks that are added": on(lambda mask: join(mask, L.Add(name="sum"))),
    "masks that are joined": on(lambda mask: join(mask, L.Concatenate(axis=1, name="both"))),
    "masks of attention": on(lambda mask: join(mask, L.Attention(name="mix"))),
    "a mask given by hand": off(given_by_hand),
    "a mask that is no longer cast away": (
        ConvertDtype("float32"), lambda: row(masking(), last("bfloat16")), lambda: row(masking(), last()),
    ),
}  # fmt: skip


@pytest.mark.parametrize("edit, before, after", EDITS.values(), ids=EDITS)
def test_calls_record_the_masks_that_keras_computes(edit, before, after):
    snapshot = capture(before())
    made = edit(snapshot)
    assert made.record["config"] == capture(after()).record["config"]


VALUES = [EDITS[name] for name in ("an embedding that masks no more", "no Masking", "Masking before a nested model")]


@pytest.mark.parametrize("edit, before, after", [*VALUES, EDITS["masks that are joined"]])
def test_masks_affect_the_outputs(edit, before, after):
    """The edited model computes what the model built by hand computes with the same weights, and no longer what it
    computed before."""
    old = before()
    randomise(old)
    made = edit(capture(old))
    expected = after()
    expected.set_weights(old.get_weights())
    ids = np.array([[1, 2, 3, 0, 2, 0, 0]])
    x = ids if "int" in old.inputs[0].dtype else np.where(ids[..., None] == 0, 0.0, np.ones((1, 7, 6)) * ids[..., None])
    x = np.where(x == 2, 2, x)
    assert deviation(compute(made, [x]), [np.asarray(expected(x))]) < 2e-5
    assert capture(rebuild(made)).record["config"] == made.record["config"]


def test_a_part_keeps_the_masks_of_its_inputs():
    snapshot = capture(row(embedding(), dense()))
    whole = ExtractModel("last", inputs=["embedding", "x"])(snapshot)
    bare = ExtractModel("last", inputs="embedding")(snapshot)
    names = {layer["name"] for layer in whole.record["config"]["layers"]}
    assert names == {"x", "embedding_input", "not_equal", "dense", "last"}
    assert whole.record["config"]["layers"][-1]["inbound_nodes"][0]["kwargs"]["mask"] is not None
    assert bare.record["config"]["layers"][-1]["inbound_nodes"][0]["kwargs"]["mask"] is None
    rebuild(bare)


def test_operations_that_masks_are_computed_by_are_edited_like_others():
    snapshot = capture(row(embedding()))
    renamed = RenameLayer("not_equal", "present")(snapshot).record["config"]["layers"]
    assert {layer["name"] for layer in renamed} == {"x", "embedding", "present", "last"}
    turned = InsertLayer(L.Identity(name="same"), after="not_equal")(snapshot)
    last = turned.record["config"]["layers"][-1]["inbound_nodes"][0]["kwargs"]
    assert last["mask"]["config"]["keras_history"] == ["same", 0, 0]


@keras.saving.register_keras_serializable("masks")
class Own(L.Layer):
    """A class with a `compute_mask` of its own."""

    supports_masking = True

    def compute_mask(self, inputs, mask=None):
        return keras.ops.any(inputs > 0, axis=-1) if mask is None else keras.ops.logical_not(mask)

    def call(self, inputs):
        return inputs

    def compute_output_shape(self, shape):
        return shape


def test_an_edit_that_leaves_the_mask_of_an_unknown_class_is_refused():
    first, second = capture(row(Own(name="own"), dense())), capture(row(masking(), Own(name="own"), dense()))
    for edit, snapshot in (
        (DeleteLayer("own"), first), (DeleteLayer("own"), second), (DeleteLayer("masking"), second),
        (ReplaceLayer("own", L.ReLU()), first), (SetConfig("masking", mask_value=2.0), second),
    ):  # fmt: skip
        with pytest.raises(MisfitTensor, match=r"'last' has a mask that the compute_mask of layer 'own' \(Own\)"):
            edit(snapshot)
    same = Plan(RenameLayer("own", "o"), InsertLayer(L.ReLU(name="r"), after="dense"), SetTrainable("dense", False))
    assert same(second).record["config"]["layers"][-1]["inbound_nodes"][0]["kwargs"]["mask"] is not None


def test_a_branch_is_removed_where_the_mask_stays():
    """A branch without a mask makes every step count, so it is needed; one with the mask of another is not."""
    x = keras.Input((7, 6), name="x")
    masked = masking()(x)
    branches = [L.Dense(2, name="a")(masked), L.Dense(3, name="b")(masked)]
    data = np.random.default_rng(0).normal(size=(2, 7, 6)).astype("float32")
    data[:, 4:] = 0

    def model(*tensors):
        return keras.Model(x, L.Dense(2, name="top")(last()(L.Concatenate(name="join")(list(tensors)))))

    both, mixed = model(*branches), model(branches[0], L.Dense(3, name="c")(x))
    for whole, layer, rows in ((both, "b", slice(2, 5)), (mixed, "a", slice(0, 2))):
        randomise(whole)
        made = DeleteChannels(layer, range(rows.stop - rows.start))(capture(whole))
        top = whole.get_layer("top")
        kernel, bias = top.get_weights()
        kernel[rows] = 0
        top.set_weights([kernel, bias])
        assert deviation(compute(made, [data]), [np.asarray(whole(data))]) < 2e-5
    with pytest.raises(NothingLeft, match=r"combines the output of .* with other tensors"):
        DeleteChannels("c", [0, 1, 2])(capture(mixed))
