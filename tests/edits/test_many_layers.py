"""Edits of many layers change a model once, not once for each layer."""

import numpy as np
import pytest

from helpers.records import call, functional, layer, sequential, snapshot
from kerassurgery_fn import (
    ConvertDtype,
    InsertLayer,
    ReplaceLayer,
    SetConfig,
    SetTrainable,
    Snapshot,
    UnshareLayer,
    WidenChannels,
)
from kerassurgery_fn.edits import widening
from kerassurgery_fn.edits.steps import copied_lines
from kerassurgery_fn.edits.steps.draft import Draft
from kerassurgery_fn.graph import read_graph

DROPOUT = Snapshot(layer("Dropout", "dropout"), {})
EDITS = {
    "SetConfig": SetConfig("d*", activation="relu"),
    "SetTrainable": SetTrainable("*", False),
    "ConvertDtype": ConvertDtype("float16"),
}


def chain(n):
    return snapshot(sequential("chain", (None, 3), *(layer("Dense", f"d{i}", units=3) for i in range(n))))


def shared(n):
    """A ReLU that is called n times, each time on what it has computed before."""
    relu = layer("ReLU", "relu")
    calls = [call("relu" if i else relu, ("relu", i - 1, 0) if i else "x") for i in range(n)]
    return snapshot(functional("shared", {"x": (None, 3)}, *calls, outputs=("relu", n - 1, 0)))


def drafts(monkeypatch, edit, model):
    """The number of drafts that an edit makes."""
    made = []
    start = Draft.__init__
    with monkeypatch.context() as patch:
        patch.setattr(Draft, "__init__", lambda self, *args, **kwargs: made.append(1) or start(self, *args, **kwargs))
        edit(model)
    return len(made)


@pytest.mark.parametrize("name", EDITS)
def test_an_edit_of_more_layers_makes_no_more_drafts(monkeypatch, name):
    assert drafts(monkeypatch, EDITS[name], chain(4)) == drafts(monkeypatch, EDITS[name], chain(16))


@pytest.mark.parametrize("edit", [UnshareLayer("relu"), ReplaceLayer("relu", DROPOUT, calls=range(1, 3))], ids=repr)
def test_an_edit_of_more_calls_makes_no_more_drafts(monkeypatch, edit):
    assert drafts(monkeypatch, edit, shared(4)) == drafts(monkeypatch, edit, shared(16))


def test_each_call_of_a_chain_of_calls_gets_its_own_layer():
    graph = read_graph(UnshareLayer("relu")(shared(5)))
    names = ["x", "relu", *(f"relu_{i}" for i in range(1, 5))]
    assert graph.listed == names
    assert [graph.reads((name, 0))[0].layer for name in names[1:]] == names[:-1]


def test_channels_without_a_grid_are_checked_once_for_all_layers(monkeypatch):
    checked = []
    for module in (copied_lines, widening):
        monkeypatch.setattr(module, "refuse_unlike", lambda flow, wider: checked.append(wider))
    wider = WidenChannels("d[0-2]", 5)(filled_chain(4))
    assert wider.weights["d0"][0].shape == (3, 5)
    assert len(checked) == 1


def test_the_weights_of_new_layers_are_looked_up_once(monkeypatch):
    """A set that is worked out for each of many weights makes an edit quadratic."""
    unions = []

    class Counted(frozenset):
        def __and__(self, other):
            unions.append(1)
            return super().__and__(other)

    start = Draft.__init__

    def counted(self, *args, fresh=frozenset(), **kwargs):
        start(self, *args, fresh=Counted(fresh), **kwargs)

    monkeypatch.setattr(Draft, "__init__", counted)
    InsertLayer(Snapshot(layer("Dense", "new", units=3), {}), after="d*")(filled_chain(6))
    assert len(unions) == 1


def filled_chain(n):
    kernels = {f"d{i}": (np.ones((3, 3), "float32"), np.ones(3, "float32")) for i in range(n)}
    return Snapshot(chain(n).record, kernels)
