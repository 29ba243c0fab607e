"""Cuts that are not exact warn, once an edit, wherever they are made."""

import warnings

import pytest
from toolz import pipe

import kerassurgery_fn
from helpers.records import call, functional, layer, snapshot
from kerassurgery_fn import DeleteChannels, InexactCut, KeepChannels, Plan, RenameLayer, explain, made_for, simplify

SOFT = layer("Softmax", "soft")


def model():
    """Two layers whose channels go through a softmax or two, and one whose channels do not."""
    record = functional(
        "net", {"x": (None, 5)}, call(layer("Dense", "a", units=4), "x"), call(SOFT, "a", out=(None, 4)),
        call(layer("Dense", "b", units=4, activation="softmax"), "soft"), call(layer("Dense", "c", units=4), "b"),
        call(layer("Dense", "d", units=2), "c"), outputs="d",
    )  # fmt: skip
    return snapshot(record, {})


EDITS = {
    "an edit": (DeleteChannels("a", [0]), ["'soft' normalises over the channels"]),
    "what is kept": (KeepChannels("a", [0, 1]), ["'soft' normalises over the channels"]),
    "several layers": (DeleteChannels({"a": [0], "b": [1]}), ["'soft', 'b' normalises over the channels"]),
    "a plan": (
        Plan(DeleteChannels("a", [0]), DeleteChannels("c", [0]), DeleteChannels("b", [0])), ["'soft' n", "'b' n"]
    ),
    "edits at once": (
        Plan.at_once(RenameLayer("c", "e"), DeleteChannels("a", [0]), DeleteChannels("b", [0])), ["'soft', 'b' n"]
    ),
    "a plan for a model": (made_for(DeleteChannels("a", [0]), model()), ["'soft' n"]),
    "exact": (Plan(DeleteChannels("c", [0]), DeleteChannels("a", [])), []),
}  # fmt: skip


@pytest.mark.parametrize("edit, words", EDITS.values(), ids=EDITS)
def test_an_edit_warns_once(edit, words):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        pipe(model(), edit)
    assert [one.category for one in caught] == [InexactCut] * len(words)
    assert all(one.filename == __file__ for one in caught)
    for one, expected in zip(caught, words, strict=True):
        assert expected in str(one.message)


def test_the_category_can_be_filtered():
    assert issubclass(InexactCut, UserWarning)
    assert kerassurgery_fn.errors.InexactCut is InexactCut
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", InexactCut)
        DeleteChannels("a", [0])(model())
        warnings.simplefilter("error", InexactCut)
        with pytest.raises(InexactCut):
            DeleteChannels("a", [0])(model())


def test_functions_that_preview_an_edit_do_not_warn():
    edit = DeleteChannels("a", [0])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert explain(edit, model()).warnings == (
            "'soft' normalises over the channels: the remaining channels are not computed as before",
        )
        assert simplify(Plan(edit, DeleteChannels("a", [0])), model()) == Plan(DeleteChannels("a", [0, 1]))
    with pytest.warns(InexactCut):
        edit(model())


def test_a_removed_layer_gives_no_warning():
    record = functional(
        "net", {"x": (None, 5)}, call(layer("Dense", "a", units=4), "x"), call(SOFT, "a", out=(None, 4)),
        call(layer("Dense", "b", units=3), "x"), call(layer("Concatenate", "c"), ["soft", "b"], out=(None, 7)),
        call(layer("Dense", "d", units=2), "c"), outputs="d",
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        DeleteChannels("a", range(4))(snapshot(record, {}))
