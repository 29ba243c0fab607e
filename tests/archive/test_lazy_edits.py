"""Edits of a file give what they give in memory, though they read it when it is written."""

import numpy as np
import pytest

from helpers.records import call, functional, layer, snapshot
from kerassurgery_fn import (
    ConvertDtype,
    DeleteChannels,
    FoldBatchNorm,
    Plan,
    ReorderChannels,
    WidenChannels,
    diff,
    importance,
    made_for,
    patch,
    read_model,
    write_model,
)
from kerassurgery_fn.values.mapped_arrays import SelectedArray
from kerassurgery_fn.values.snapshot import Training

RECORD = functional(
    "m",
    {"x": (None, 80)},
    call(layer("Dense", "a", units=90), "x"),
    call(layer("BatchNormalization", "norm"), "a"),
    call(layer("Dense", "b", units=100, activation="relu"), "norm"),
    call(layer("Dense", "c", units=70), "b"),
    outputs="c",
)
HALF = DeleteChannels({"a": range(0, 90, 2), "b": range(50)})
# Each edit, and whether some of its arrays are still to be read.
EDITS = {
    "delete": (HALF, True),
    "delete twice": (Plan(HALF, DeleteChannels("b", [0, 7])), True),
    "reorder": (ReorderChannels("b", range(99, -1, -1)), True),
    "widen": (WidenChannels("b", 120), True),
    "convert": (ConvertDtype("float16"), True),
    "convert and delete": (Plan(ConvertDtype("bfloat16"), HALF), True),
    "fold": (FoldBatchNorm(), False),
    "all": (Plan(HALF, FoldBatchNorm(), WidenChannels("b", 60), ConvertDtype("float16")), True),
}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A model in memory, and the same read lazily."""
    rng = np.random.default_rng(0)
    shapes = {"a": [(80, 90), (90,)], "norm": [(90,)] * 4, "b": [(90, 100), (100,)], "c": [(100, 70), (70,)]}
    weights = {path: tuple(rng.random(shape, np.float32) for shape in layer) for path, layer in shapes.items()}
    slots = (None, None, ("b", 0), ("c", 0))
    state = (np.array(3), np.float32(0.1), *(rng.random(shape, np.float32) for shape in ((90, 100), (100, 70))))
    memory = snapshot(RECORD, weights)
    write_model(memory, path := tmp_path_factory.mktemp("lazy") / "m.keras")
    lazy = read_model(path, lazy=True)
    training = Training(slots, tuple(map(np.asarray, state)))
    return type(memory)(memory.record, memory.weights, training), type(lazy)(lazy.record, lazy.weights, training)


@pytest.mark.parametrize("name", EDITS)
def test_an_edit_of_a_file_is_that_of_the_model(name, models, tmp_path):
    (edit, is_lazy), (memory, lazy) = EDITS[name], models
    wanted, edited = edit(memory), edit(lazy)
    assert any(type(array) is SelectedArray for arrays in edited.weights.values() for array in arrays) == is_lazy
    assert edited == wanted
    assert wanted == edited
    assert patch(lazy, diff(lazy, edited)) == wanted
    assert patch(memory, diff(memory, wanted)) == edited
    assert made_for(HALF, edited, weights=True) == made_for(HALF, wanted, weights=True)
    for group, scores in importance(wanted).items():
        np.testing.assert_allclose(importance(edited)[group], scores, rtol=1e-6)
    for model, path in ((edited, tmp_path / "lazy.keras"), (wanted, tmp_path / "memory.keras")):
        write_model(model, path)
    assert (tmp_path / "lazy.keras").read_bytes() == (tmp_path / "memory.keras").read_bytes()
