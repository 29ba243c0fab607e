"""A model's config read as a graph, and its trace: the list of its calls."""

import copy
from time import perf_counter

import numpy as np
import pytest

from helpers.records import call, constant, functional, layer, operation, sequential, snapshot
from kerassurgery_fn.errors import AmbiguousLayer, BrokenSnapshot, UnknownLayer
from kerassurgery_fn.graph import (
    Constant,
    Ref,
    find_layer,
    graph_at,
    leaves,
    nested,
    read_graph,
    refs,
    trace,
    with_layer,
)
from kerassurgery_fn.values.frozen import get_in


def read(record):
    return trace(read_graph(snapshot(record)))


def dense(name, units=4):
    return layer("Dense", name, units=units)


def add(name="sum"):
    return layer("Add", name)


def picture(record):
    """The calls of a model as text: `path node <- the tensors it reads`."""
    return [
        " ".join([written(Ref(one.path, one.node, 0)), *("<- " + written(ref) for ref in refs([one.args, one.kwargs]))])
        for one in read(record).calls
    ]


def written(ref):
    """`a` for the only output of the first call of a layer, `a@1` for its second call, `a@0.1` in nested models,
    `a[1]` for its second output."""
    node = "" if not any(ref.node) else "@" + ".".join(map(str, ref.node))
    return ref.path + node + (f"[{ref.output}]" if ref.output else "")


def ends(record):
    graph = read(record)
    return [*map(written, graph.inputs)], [*map(written, graph.outputs)]


X = {"x": (None, 6)}
XY = {"x": (None, 6), "y": (None, 6)}


# --- calls in order


def test_a_sequential_model_is_a_chain():
    net = sequential("net", (None, 6), dense("a"), dense("b"))
    assert picture(net) == ["net_input", "a <- net_input", "b <- a"]
    assert ends(net) == (["net_input"], ["b"])


def test_a_functional_model():
    net = functional("net", X, call(dense("a"), "x"), call(dense("b"), "x"), call(add(), ["a", "b"]), outputs="sum")
    assert picture(net) == ["x", "a <- x", "b <- x", "sum <- a <- b"]
    assert ends(net) == (["x"], ["sum"])


def test_calls_are_sorted_after_their_inputs():
    net = functional("net", X, call(dense("a"), "x"), call(dense("b"), "a"), call(dense("c"), "b"), outputs="c")
    net["config"]["layers"].reverse()
    assert picture(net) == ["x", "a <- x", "b <- a", "c <- b"]


def test_calls_are_sorted_in_linear_time_in_any_order():
    names = [f"l{i}" for i in range(1500)]
    chain = [call(dense(name, 6), below) for name, below in zip(names, ["x", *names], strict=False)]
    net = functional("net", X, *chain, call(layer("Concatenate", "all"), names), outputs="all")
    reverse = copy.deepcopy(net)
    reverse["config"]["layers"].reverse()
    forwards, backwards = (min(time_to_read(snapshot(record)) for _ in range(3)) for record in (net, reverse))
    assert [node[0] for node in read_graph(snapshot(reverse)).order] == [*names, "all"]
    assert backwards < 5 * forwards


def time_to_read(model):
    start = perf_counter()
    read_graph(model)
    return perf_counter() - start


def test_a_layer_called_twice_is_two_calls():
    net = functional("net", XY, call(dense("a"), "x"), call("a", "y"), call(add(), ["a", ("a", 1, 0)]), outputs="sum")
    assert picture(net) == ["x", "y", "a <- x", "a@1 <- y", "sum <- a <- a@1"]
    assert list(read(net).graph.places) == ["x", "y", "a", "sum"]


@pytest.mark.parametrize("depths", [(1, 3), (3, 1), (2, 2)])
def test_a_layer_shared_at_different_depths(depths):
    before = [[f"{side}{i}" for i in range(depth)] for side, depth in zip("pq", depths, strict=True)]
    chains = [
        call(dense(name, 6), below) for names in before for below, name in zip(["x", *names], names, strict=False)
    ]
    net = functional(
        "net", X, *chains, call(dense("shared"), before[0][-1]), call("shared", before[1][-1]),
        outputs=["shared", ("shared", 1, 0)],
    )  # fmt: skip
    assert f"shared <- p{depths[0] - 1}" in picture(net)
    assert f"shared@1 <- q{depths[1] - 1}" in picture(net)


def test_a_layer_called_on_its_own_output():
    net = functional("net", X, call(dense("a", 6), "x"), call(dense("b", 6), "a"), call("a", "b"), outputs=("a", 1, 0))
    assert picture(net) == ["x", "a <- x", "b <- a", "a@1 <- b"]
    assert ends(net) == (["x"], ["a@1"])


def test_a_layer_with_several_outputs():
    lstm = layer("LSTM", "lstm", units=4, return_state=True)
    out = [(None, 4)] * 3
    net = functional(
        "net", {"x": (None, 5, 3)}, call(lstm, "x", out=out), call(add(), [("lstm", 0, 2), "lstm"]),
        outputs=["sum", ("lstm", 0, 1)],
    )  # fmt: skip
    assert picture(net) == ["x", "lstm <- x", "sum <- lstm[2] <- lstm"]
    assert ends(net) == (["x"], ["sum", "lstm[1]"])


def test_operations_are_calls_like_any_other_and_numbers_stay_among_the_arguments():
    net = functional("net", X, call(operation("Multiply", "mul"), "x", 2.0, out=(None, 6)), outputs="mul")
    assert picture(net) == ["x", "mul <- x"]
    assert read(net).calls[1].args == [Ref("x", (0,), 0), 2.0]


def test_tensors_among_keyword_arguments():
    lstm = layer("LSTM", "lstm", units=4)
    net = functional(
        "net", {"x": (None, 5, 3), "h": (None, 4)}, call(lstm, "x", initial_state=["h", "h"], out=(None, 4)),
        outputs="lstm",
    )  # fmt: skip
    assert picture(net) == ["x", "h", "lstm <- x <- h <- h"]


def test_a_model_may_return_its_input():
    net = functional("net", X, call(dense("a"), "x"), outputs=["x", "a"])
    assert ends(net) == (["x"], ["x", "a"])


# --- nested models


def inner(name="inner"):
    return functional(name, {"i": (None, 4)}, call(dense("a"), "i"), call(dense("b", 6), "a"), outputs="b")


def test_a_nested_model_is_flattened_into_calls_with_paths():
    net = functional("net", X, call(dense("a"), "x"), call(inner(), "a"), call(dense("c"), "inner"), outputs="c")
    assert picture(net) == ["x", "a <- x", "inner/a <- a", "inner/b <- inner/a", "c <- inner/b"]
    assert set(read(net).graph.places) == {"x", "a", "inner", "inner/i", "inner/a", "inner/b", "c"}


def test_a_nested_model_called_twice_is_its_calls_twice():
    net = functional(
        "net", XY, call(dense("p"), "x"), call(dense("q"), "y"), call(inner(), "p"), call("inner", "q"),
        call(add(), ["inner", ("inner", 1, 0)]), outputs="sum",
    )  # fmt: skip
    assert picture(net)[4:] == [
        "inner/a <- p", "inner/b <- inner/a", "inner/a@1.0 <- q", "inner/b@1.0 <- inner/a@1.0",
        "sum <- inner/b <- inner/b@1.0",
    ]  # fmt: skip
    twins = [tuple(map(written, pair)) for pair in read(net).twins]
    assert twins == [("p", "q"), ("inner/a", "inner/a@1.0"), ("inner/b", "inner/b@1.0")]


def test_models_in_models_in_models_number_their_calls_at_every_level():
    middle = functional("middle", {"m": (None, 4)}, call(inner(), "m"), call(dense("d"), "inner"), outputs="d")
    net = functional(
        "net", X, call(dense("p"), "x"), call(middle, "p"), call("middle", "middle"), outputs=("middle", 1, 0)
    )
    assert picture(net)[2:] == [
        "middle/inner/a <- p", "middle/inner/b <- middle/inner/a", "middle/d <- middle/inner/b",
        "middle/inner/a@1.0.0 <- middle/d", "middle/inner/b@1.0.0 <- middle/inner/a@1.0.0",
        "middle/d@1.0 <- middle/inner/b@1.0.0",
    ]  # fmt: skip
    assert ends(net) == (["x"], ["middle/d@1.0"])


def test_a_model_called_twice_in_a_model_called_twice():
    middle = functional(
        "middle", {"m": (None, 6)}, call(dense("d"), "m"), call(inner(), "d"), call("d", "inner"),
        call("inner", ("d", 1, 0)), outputs=("inner", 1, 0),
    )  # fmt: skip
    net = functional("net", X, call(middle, "x"), call("middle", "middle"), outputs=("middle", 1, 0))
    nodes = [one.node for one in read(net).calls if one.path == "middle/inner/b"]
    assert nodes == [(0, 0, 0), (0, 1, 0), (1, 0, 0), (1, 1, 0)]
    later = [written(b) for a, b in read(net).twins if a.path == b.path == "middle/inner/b"]
    assert later == ["middle/inner/b@0.1.0", "middle/inner/b@1.0.0", "middle/inner/b@1.1.0"]


def test_a_nested_model_is_a_graph_that_is_read_when_it_is_asked_for_and_once():
    net = functional("net", X, call(dense("a"), "x"), call(inner(), "a"), call(dense("c"), "inner"), outputs="c")
    graph = read_graph(snapshot(net))
    assert not graph.read_models
    assert [*nested(graph, "inner").layers] == ["i", "a", "b"]
    assert nested(graph, "a") is None
    assert graph_at(graph, "inner") is nested(graph, "inner")
    assert graph_at(graph, "") is graph
    with pytest.raises(UnknownLayer, match="'a' is not the path of a nested model"):
        graph_at(graph, "a")
    later = with_layer(graph, "a", graph.layers["a"])
    assert nested(later, "inner") is nested(graph, "inner")
    other = with_layer(graph, "inner", snapshot(inner("other")).record)
    assert nested(other, "inner").record["config"]["name"] == "other"


def test_a_sequential_model_in_a_functional_one_and_the_other_way_round():
    tail = sequential("tail", (None, 6), dense("s"), inner())
    net = functional("net", X, call(tail, "x"), call("tail", "tail"), outputs=("tail", 1, 0))
    assert picture(net) == [
        "x", "tail/s <- x", "tail/inner/a <- tail/s", "tail/inner/b <- tail/inner/a",
        "tail/s@1.0 <- tail/inner/b", "tail/inner/a@1.0.0 <- tail/s@1.0", "tail/inner/b@1.0.0 <- tail/inner/a@1.0.0",
    ]  # fmt: skip
    assert ends(net) == (["x"], ["tail/inner/b@1.0.0"])


def test_a_nested_model_that_returns_its_input():
    through = functional("through", {"i": (None, 4)}, call(dense("a"), "i"), outputs=["i", "a"])
    net = functional(
        "net", X, call(dense("p"), "x"), call(through, "p"), call(add(), ["through", ("through", 0, 1)]), outputs="sum"
    )
    assert picture(net)[-1] == "sum <- p <- through/a"


def test_outputs_that_are_calls_of_functional_models_are_counted_from_one():
    net = functional("net", X, call(dense("a"), "x"), call(inner(), "a"), outputs="inner")
    assert net["config"]["output_layers"] == ["inner", 1, 0]
    assert ends(net) == (["x"], ["inner/b"])
    tail = functional("net", X, call(sequential("tail", (None, 6), dense("s")), "x"), outputs="tail")
    assert tail["config"]["output_layers"] == ["tail", 0, 0]
    assert ends(tail) == (["x"], ["tail/s"])


def test_every_call_of_a_nested_model_is_listed_with_its_inputs_and_outputs():
    middle = functional("middle", {"m": (None, 4)}, call(inner(), "m"), call(dense("d"), "inner"), outputs="d")
    net = functional("net", X, call(dense("p"), "x"), call(middle, "p"), outputs="middle")
    models = [(m.path, m.node, [*map(written, m.inputs)], [*map(written, m.outputs)]) for m in read(net).models]
    assert models == [("middle/inner", (0, 0), ["p"], ["middle/inner/b"]), ("middle", (0,), ["p"], ["middle/d"])]


# --- structures of inputs and outputs

PAIR = {"p": (None, 4), "q": (None, 4)}


def pair(**ends):
    return functional("pair", PAIR, call(dense("a"), "p"), call(dense("b"), "q"), **ends)


@pytest.mark.parametrize(
    "feeds, given",
    [
        (["p", "q"], ["u", "v"]),
        (["q", "p"], ["v", "u"]),
        ({"first": "p", "second": "q"}, {"first": "u", "second": "v"}),
        ({"z": "p", "a": "q"}, {"z": "u", "a": "v"}),
        (["p", "q"], {"p": "u", "q": "v"}),
        (["p", "q"], {"q": "v", "p": "u"}),
        ({"first": "p", "second": "q"}, ["u", "v"]),
    ],
)
def test_inputs_of_a_nested_model_in_any_structure(feeds, given):
    net = functional(
        "net", XY, call(dense("u"), "x"), call(dense("v"), "y"), call(pair(feeds=feeds, outputs=["a", "b"]), given),
        outputs=["pair", ("pair", 0, 1)],
    )  # fmt: skip
    assert sorted(picture(net)[4:]) == ["pair/a <- u", "pair/b <- v"]


@pytest.mark.parametrize(
    "outputs, expected",
    [
        (["a", "b"], ["a", "b"]),
        (["b", "a"], ["b", "a"]),
        ({"one": "b", "two": "a"}, ["b", "a"]),
        ({"two": "a", "one": "b"}, ["b", "a"]),
        ([["b"], {"x": "a"}], ["b", "a"]),
        (["a"], ["a"]),
        ("a", ["a"]),
    ],
)
def test_outputs_in_any_structure_are_flattened_as_keras_flattens(outputs, expected):
    assert ends(pair(outputs=outputs))[1] == expected


def test_a_nested_model_given_its_input_by_keyword():
    net = functional("net", X, call(dense("p"), "x"), call(inner(), inputs="p", out=(None, 6)), outputs="inner")
    assert picture(net)[2] == "inner/a <- p"


def test_the_leaves_of_a_structure():
    assert leaves({"b": [1, {"d": 2, "c": 3}], "a": (4, 5)}) == [(4, 5), 1, 3, 2]


# --- constants


def test_arrays_in_arguments_are_read_and_their_place_is_kept():
    net = functional(
        "net", X, call(operation("Multiply", "mul"), "x", constant(np.arange(6.0)), out=(None, 6)), outputs="mul"
    )
    _, found = read(net).calls[1].args
    assert isinstance(found, Constant)
    assert found.array.tolist() == [0, 1, 2, 3, 4, 5]
    assert get_in(net, found.where) == [0, 1, 2, 3, 4, 5]


def test_arrays_deep_in_keyword_arguments():
    net = functional(
        "net", X, call(layer("Gate", "gate"), "x", by=[{"to": constant([[1.0, 2.0]])}], out=(None, 6)), outputs="gate"
    )
    found = read(net).calls[1].kwargs["by"][0]["to"]
    assert get_in(net, found.where) == [[1.0, 2.0]]


def test_an_array_without_axes_is_a_number():
    net = functional("net", X, call(operation("Multiply", "mul"), "x", constant(3.0), out=(None, 6)), outputs="mul")
    assert read(net).calls[1].args[1] == 3.0


def test_other_serialised_objects_do_not_change():
    policy = {"class_name": "DTypePolicy", "config": {"name": "float32"}}
    net = functional("net", X, call(layer("Gate", "gate"), "x", policy=policy, out=(None, 6)), outputs="gate")
    assert read(net).calls[1].kwargs == {"policy": policy}


# --- the places of facts


def test_every_place_that_states_a_shape_is_known():
    net = functional("net", X, call(dense("a"), "x"), call(inner(), "a"), call(dense("c"), "inner"), outputs="c")
    graph = read(net)
    stated = {written(ref): get_in(net, place) for place, ref in graph.shapes.items()}
    assert stated == {"x": [None, 6], "a": [None, 4], "inner/a": [None, 4], "inner/b": [None, 6]}
    assert sum("batch_shape" in place for place in graph.shapes) == 2
    assert len(graph.shapes) == 2 + 5
    assert {written(ref): shape for ref, shape in graph.recorded.items()} == {
        "x": (None, 6), "a": (None, 4), "inner/a": (None, 4), "inner/b": (None, 6),
    }  # fmt: skip


def test_a_sequential_model_states_the_shapes_for_which_its_layers_were_built():
    net = sequential("net", (None, 6), dense("a"), layer("ReLU", "r"), dense("b", 2))
    graph = read(net)
    assert {written(ref): shape for ref, shape in graph.recorded.items()} == {"net_input": (None, 6), "r": (None, 4)}
    assert {place: written(ref) for place, ref in graph.structures.items()} == {
        ("config", "build_input_shape"): "net_input", ("build_config", "input_shape"): "net_input",
    }  # fmt: skip


def test_every_layer_is_found_at_its_place():
    net = functional("net", X, call(sequential("tail", (None, 6), dense("s"), inner()), "x"), outputs="tail")
    for path, place in read(net).graph.places.items():
        assert get_in(net, place)["config"]["name"] == path.split("/")[-1]


def test_reading_changes_nothing():
    net = functional("net", X, call(dense("a"), "x"), call(inner(), "a"), outputs="inner")
    before = copy.deepcopy(net)
    read(net)
    assert net == before


# --- finding layers


@pytest.fixture
def graph():
    return read(
        functional(
            "net",
            X,
            call(dense("conv_1"), "x"),
            call(inner("left"), "conv_1"),
            call(inner("right"), "conv_1"),
            call(layer("Concatenate", "cat"), ["left", "right"]),
            outputs="cat",
        )
    ).graph


def test_a_layer_is_found_by_path_by_name_or_by_itself(graph):
    class Layer:
        name = "conv_1"

    assert find_layer(graph, "left/a") == "left/a"
    assert find_layer(graph, "conv_1") == "conv_1"
    assert find_layer(graph, Layer()) == "conv_1"


def test_a_bare_name_finds_the_one_nested_layer_that_has_it():
    net = functional("net", X, call(dense("p"), "x"), call(inner(), "p"), outputs="inner")
    assert find_layer(read(net).graph, "b") == "inner/b"


def test_a_top_level_name_wins_over_a_nested_one():
    net = functional("net", X, call(dense("a"), "x"), call(inner(), "a"), outputs="inner")
    assert find_layer(read(net).graph, "a") == "a"


def test_a_name_of_several_nested_layers_is_ambiguous_and_the_paths_are_named(graph):
    with pytest.raises(AmbiguousLayer, match=r"2 layers are named 'a': left/a, right/a; give one of these paths"):
        find_layer(graph, "a")


def test_an_unknown_name_suggests_the_closest_one(graph):
    with pytest.raises(UnknownLayer, match=r"no layer named 'cnov_1' among \d+ layers; did you mean 'conv_1'\?"):
        find_layer(graph, "cnov_1")


def test_an_unknown_name_without_a_close_match_lists_all_names(graph):
    with pytest.raises(
        UnknownLayer, match=r"no layer named 'zzz' among 11 layers; there are x, conv_1, left, right, .*, \.\.\."
    ):
        find_layer(graph, "zzz")


def test_an_invalid_name_is_unknown(graph):
    with pytest.raises(UnknownLayer, match="no layer named 7 among 11"):
        find_layer(graph, 7)


# --- configs that are no graph


def broken(change):
    """A model with one thing in its config changed."""
    net = functional("net", X, call(dense("a"), "x"), call(inner(), "a"), call(dense("c"), "inner"), outputs="c")
    layers = {one["config"]["name"]: one for one in net["config"]["layers"]}
    change(net, layers)
    return net


def tensor_of(record):
    return record["inbound_nodes"][0]["args"][0]["config"]


BROKEN = {
    "a subclassed model": lambda net, layers: net.update(config={"width": 3}),
    "a model without config": lambda net, layers: net.pop("config"),
    "a reader of a tensor that nothing makes": lambda net, layers: tensor_of(layers["a"]).update(
        keras_history=["gone", 0, 0]
    ),
    "a reader of a call that does not happen": lambda net, layers: tensor_of(layers["c"]).update(
        keras_history=["a", 1, 0]
    ),
    "a circle": lambda net, layers: tensor_of(layers["a"]).update(keras_history=["c", 0, 0]),
    "an output that nothing makes": lambda net, layers: net["config"].update(output_layers=["gone", 0, 0]),
    "an output of a call that does not happen": lambda net, layers: net["config"].update(output_layers=["c", 1, 0]),
    "a nested output that nothing makes": lambda net, layers: layers["inner"]["config"].update(
        output_layers=["gone", 0, 0]
    ),
    "a nested output beyond those there are": lambda net, layers: tensor_of(layers["c"]).update(
        keras_history=["inner", 0, 1]
    ),
    "two layers of one name": lambda net, layers: net["config"]["layers"].append(layers["a"]),
    "no inbound_nodes": lambda net, layers: layers["a"].pop("inbound_nodes"),
    "inbound_nodes as Keras 2 wrote them": lambda net, layers: layers["a"].update(
        inbound_nodes=[[["x", 0, 0, {}]]]
    ),
    "a layer without config": lambda net, layers: layers["a"].pop("config"),
    "a layer whose config is a name": lambda net, layers: layers["a"].update(config="relu"),
    "a layer without class": lambda net, layers: layers["a"].pop("class_name"),
    "a tensor without history": lambda net, layers: tensor_of(layers["a"]).pop("keras_history"),
    "no outputs": lambda net, layers: net["config"].pop("output_layers"),
    "a nested model called on nothing": lambda net, layers: layers["inner"]["inbound_nodes"][0].update(args=[]),
    "a nested model called on too much": lambda net, layers: layers["inner"]["inbound_nodes"][0].update(
        args=[[{"class_name": "__keras_tensor__", "config": tensor_of(layers["inner"])}] * 2]
    ),
}  # fmt: skip


@pytest.mark.parametrize("change", BROKEN.values(), ids=BROKEN)
def test_a_broken_config_is_a_broken_snapshot(change):
    with pytest.raises(BrokenSnapshot):
        read(broken(change))


@pytest.mark.parametrize(
    "change, words",
    [
        ("a nested model called on nothing", "a call of nested model 'inner' has 0 tensors, which do not match"),
        ("a nested model called on too much", "a call of nested model 'inner' has 2 tensors, which do not match"),
        ("a nested output beyond those there are", "output 1 of nested model 'inner' is read, but it does not exist"),
    ],
)
def test_a_broken_call_of_a_nested_model_is_found_where_its_parent_is_read(change, words):
    with pytest.raises(BrokenSnapshot, match=words):
        read_graph(snapshot(broken(BROKEN[change])))


def test_a_sequential_model_that_was_never_built_is_a_broken_snapshot():
    net = sequential("net", (None, 6), dense("a"))
    del net["config"]["layers"][0]
    with pytest.raises(BrokenSnapshot, match=r"'net'.*input"):
        read(net)


def test_an_empty_sequential_model_is_a_broken_snapshot():
    net = sequential("net", (None, 6))
    net["config"]["layers"] = []
    with pytest.raises(BrokenSnapshot, match=r"'net'.*input"):
        read(net)


def test_a_sequential_model_of_an_input_alone_returns_it():
    assert ends(sequential("net", (None, 6))) == (["net_input"], ["net_input"])


def test_a_call_with_missing_inputs_is_named():
    with pytest.raises(BrokenSnapshot, match="the calls of a, c, inner read tensors that no layer computes"):
        read(broken(BROKEN["a circle"]))


def test_an_unused_input_is_an_input():
    net = functional("net", XY, call(dense("a"), "x"), outputs="a")
    assert ends(net) == (["x", "y"], ["a"])
