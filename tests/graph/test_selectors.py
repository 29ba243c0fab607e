"""Selectors: several layers by one string."""

import pytest

from helpers.pictures import chain
from helpers.records import call, functional, layer
from kerassurgery_fn.edits import (
    ConvertDtype,
    DeepenLayer,
    DeleteChannels,
    DeleteLayer,
    FoldBatchNorm,
    InsertLayer,
    KeepChannels,
    RenameLayer,
    ReorderChannels,
    ReplaceHead,
    ReplaceLayer,
    SetConfig,
    SetTrainable,
    UnshareLayer,
    WidenChannels,
)
from kerassurgery_fn.errors import AmbiguousLayer, UnknownLayer
from kerassurgery_fn.graph import as_selector, find_layers, is_pattern, of_class, read_graph, trace
from kerassurgery_fn.values.frozen import get_in
from kerassurgery_fn.values.snapshot import Snapshot


def dense(name):
    return layer("Dense", name, units=4)


def tower(name):
    calls = call(dense("conv"), "i"), call(layer("Dropout", "drop"), "conv"), call(dense("out"), "drop")
    return functional(name, {"i": (None, 4)}, *calls, outputs="out")


RECORD = functional(
    "net", {"x": (None, 4)},
    call(dense("block1_conv"), "x"),
    call(dense("block2_conv"), "block1_conv"),
    call(layer("ReLU", "relu"), "block2_conv"),
    call(tower("left"), "relu"),
    call(tower("right"), "left"),
    call(layer("Dropout", "last"), "right"),
    outputs="last",
)  # fmt: skip
GRAPH = read_graph(Snapshot(RECORD, {}))
LAYERS = {path: get_in(RECORD, place) for path, place in GRAPH.places.items()}

FOUND = {
    "relu": ["relu"],
    "left/conv": ["left/conv"],
    "block*_conv": ["block1_conv", "block2_conv"],
    "block?_conv": ["block1_conv", "block2_conv"],
    "block[2-9]_conv": ["block2_conv"],
    "*conv": ["block1_conv", "block2_conv", "left/conv", "right/conv"],
    "*/conv": ["left/conv", "right/conv"],
    "left/*": ["left/i", "left/conv", "left/drop", "left/out"],
    "*@Dropout": ["left/drop", "right/drop", "last"],
    "@Dropout": ["left/drop", "right/drop", "last"],
    "*@Functional": ["left", "right"],
    "*@ReLU,Dropout": ["relu", "left/drop", "right/drop", "last"],
    "right/*@Dense": ["right/conv", "right/out"],
    ("relu", "*@Dropout", "relu"): ["relu", "left/drop", "right/drop", "last"],
}


@pytest.mark.parametrize("selector, paths", FOUND.items(), ids=str)
def test_a_selector_names_layers_in_the_order_of_the_model(selector, paths):
    assert find_layers(GRAPH, selector, LAYERS) == paths


def test_a_name_with_wildcards_is_tried_as_a_name_first():
    record = functional("net", {"x": (None, 4)}, call(dense("a*"), "x"), call(dense("ab"), "a*"), outputs="ab")
    graph = read_graph(Snapshot(record, {}))
    assert find_layers(graph, "a*") == ["a*"]
    assert not is_pattern("a*", graph)
    assert find_layers(graph, "?b") == ["ab"]


def test_an_ambiguous_bare_name_is_not_a_pattern():
    with pytest.raises(AmbiguousLayer, match="left/conv, right/conv"):
        find_layers(GRAPH, "conv")


def test_layers_are_chosen_among_all_or_among_some():
    assert find_layers(GRAPH, "left*") == ["left", "left/i", "left/conv", "left/drop", "left/out"]
    assert find_layers(GRAPH, "left*", trace(GRAPH).records) == ["left/conv", "left/drop", "left/out"]


def test_a_selector_without_a_match_is_refused():
    with pytest.raises(
        UnknownLayer, match=r"'\*@LSTM' among 15 layers of the classes InputLayer, Dense, ReLU, Functional"
    ):
        find_layers(GRAPH, "*@LSTM")
    with pytest.raises(UnknownLayer, match="did you mean 'relu'"):
        find_layers(GRAPH, "rellu")


def test_layers_lists_and_classes_are_stored_as_data():
    class Dropout:
        name = "drop"

    assert as_selector(Dropout()) == "drop"
    assert as_selector([Dropout(), "a", ("b", "c*")]) == ("drop", "a", "b", "c*")
    assert of_class(Dropout, "Dense", among="head_*") == "head_*@Dropout,Dense"
    with pytest.raises(UnknownLayer, match="3 is not a layer"):
        as_selector(3)


def test_registered_names_are_classes_too():
    gate = layer("Gate", "gate", module="mine", registered_name="pack>Gate")
    record = functional("net", {"x": (None, 4)}, call(gate, "x", out=(None, 4)), outputs="gate")
    assert find_layers(read_graph(Snapshot(record, {})), of_class("pack>Gate")) == ["gate"]


# --- a selector of nothing

SEVERAL = {
    "DeleteLayer": DeleteLayer([]), "InsertLayer": InsertLayer(layer("ReLU", "z"), before=[]),
    "InsertLayer after": InsertLayer(layer("ReLU", "z"), after=[]),
    "ReplaceLayer": ReplaceLayer([], layer("ReLU", "z")),
    "UnshareLayer": UnshareLayer([]), "SetConfig": SetConfig([], units=3), "SetTrainable": SetTrainable([], False),
    "ConvertDtype": ConvertDtype("float16", []), "FoldBatchNorm": FoldBatchNorm([]), "DeepenLayer": DeepenLayer([]),
    "DeleteChannels": DeleteChannels([], [0]), "KeepChannels": KeepChannels([], [0]),
    "ReorderChannels": ReorderChannels([], [0]), "WidenChannels": WidenChannels([], 9),
}  # fmt: skip
ONE = {
    "RenameLayer": RenameLayer([], "q"), "DeepenLayer after": DeepenLayer("a", after=[]),
    "DeepenLayer of none": DeepenLayer([], after="a"), "ReplaceHead": ReplaceHead(3, layer=[]),
}  # fmt: skip


@pytest.mark.parametrize("edit", SEVERAL.values(), ids=SEVERAL)
def test_an_edit_of_no_layers_is_the_identity(edit):
    net = chain()
    assert edit(net) == net


@pytest.mark.parametrize("edit", ONE.values(), ids=ONE)
def test_an_edit_of_one_layer_refuses_an_empty_selector(edit):
    with pytest.raises(UnknownLayer, match="selects no layer, but"):
        edit(chain())
