"""The analysis of a snapshot is computed once, handed on with the record, and never stale."""

import gc
import pickle
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Barrier
from weakref import ref

import pytest

from helpers.kept import fresh, plain
from helpers.pictures import chain, fork, grouped, image, nested, residual, shared
from helpers.records import call, functional, layer, numbers
from kerassurgery_fn import cost, explain, groups, prune
from kerassurgery_fn.analysis import channel_flow
from kerassurgery_fn.analysis.channel_flow import analyse
from kerassurgery_fn.analysis.coupled_groups import groups_of
from kerassurgery_fn.edits import DeleteChannels, RenameLayer, ReorderChannels, SetConfig, SetTrainable
from kerassurgery_fn.edits.plan import Plan
from kerassurgery_fn.graph import nested as nested_graph
from kerassurgery_fn.graph import read_graph
from kerassurgery_fn.rules import RULES, Rule, rule
from kerassurgery_fn.rules.registry import RuleTable
from kerassurgery_fn.rules.strictness import strict_rules
from kerassurgery_fn.values.frozen import set_in
from kerassurgery_fn.values.snapshot import Snapshot

MODELS = [chain, fork, grouped, image, nested, residual, shared]
of_each = pytest.mark.parametrize("model", MODELS, ids=[model.__name__ for model in MODELS])


@pytest.fixture
def walks(monkeypatch):
    """The names of the models that were analysed."""
    analysed = []

    def counting(calls, collector, walk=channel_flow.walk):
        analysed.append(collector.trace.graph.record["config"]["name"])
        walk(calls, collector)

    monkeypatch.setattr(channel_flow, "walk", counting)
    return analysed


# --- once


@of_each
@pytest.mark.parametrize("compute", [analyse, groups, cost, read_graph])
def test_a_second_computation_gives_the_same_object(compute, model, walks):
    snapshot = model()
    first = compute(snapshot)
    assert compute(snapshot) is first
    assert len(walks) == (compute is not read_graph)
    assert plain(compute(fresh(snapshot))) == plain(first)


def test_groups_cost_and_edits_share_one_analysis(walks):
    snapshot = chain()
    groups(snapshot), cost(snapshot), groups_of(analyse(snapshot))
    Plan.at_once(DeleteChannels("a", [0]), DeleteChannels("b", [0]))(snapshot)
    Plan(DeleteChannels("a", [0]))(snapshot)
    assert walks == ["chain"]


def test_each_shape_of_the_inputs_has_a_cost_of_its_own():
    dense = call(layer("Dense", "a", units=2), "x", out=(None, None, 2))
    snapshot = Snapshot(functional("open", {"x": (None, None, 3)}, dense, outputs="a"), {})
    shapes = [None, (9, 3), [9, 3], {"x": (9, 3)}, (5, 3), None]
    macs = [cost(snapshot, shape).macs for shape in shapes]
    assert macs == [cost(fresh(snapshot), shape).macs for shape in shapes]
    assert macs[1] == macs[2] == macs[3] > macs[4] > macs[0] == macs[5]


def test_pruning_analyses_each_model_once(walks):
    """The model before, and the pruned one."""
    snapshot = Plan(RenameLayer("a", "first"))(chain(a=range(12), b=range(9)))
    walks.clear()
    result = prune(snapshot, parameters=0.5)
    assert len(walks) == 2
    assert cost(result.model) == result.after
    assert len(walks) == 2


def test_a_plan_is_explained_with_one_analysis_of_each_state(walks):
    explain(Plan(RenameLayer("a", "z"), DeleteChannels("z", [0]), SetTrainable("*", False)), chain())
    assert len(walks) == 4


# --- handed on


@of_each
def test_a_change_of_weights_keeps_the_analysis(model, walks):
    snapshot = model()
    flow, graph = analyse(snapshot), read_graph(snapshot)
    halved = {path: tuple(array / 2 for array in arrays) for path, arrays in snapshot.weights.items()}
    for weights in (halved, {}):
        changed = Snapshot(snapshot.record, weights)
        assert analyse(changed) is flow
        assert read_graph(changed) is graph
    assert len(walks) == 1


def test_an_edit_that_only_moves_weights_keeps_the_analysis(walks):
    snapshot = chain()
    flow = analyse(snapshot)
    moved = ReorderChannels("a", [3, 2, 1, 0])(snapshot)
    assert moved != snapshot
    assert analyse(moved) is flow
    assert len(walks) == 1


def test_weights_of_another_shape_do_not_keep_the_analysis():
    """A layer whose weights are not those of its config is opaque; the other snapshot is not affected."""
    snapshot = chain()
    flow = analyse(snapshot)
    other = Snapshot(snapshot.record, {**snapshot.weights, "b": numbers_of(snapshot, "b", 7)})
    assert analyse(other).opaque.keys() == {"b"}
    assert plain(analyse(other)) == plain(analyse(fresh(other)))
    assert analyse(snapshot) is flow
    assert not flow.opaque


def numbers_of(snapshot, path, units):
    kernel, _ = snapshot.weights[path]
    return numbers(len(kernel), units), numbers(units)


@of_each
@pytest.mark.parametrize(
    "edit",
    [lambda s: RenameLayer(next(iter(s.weights)), "new"), lambda s: SetTrainable("*", False)],
    ids=["RenameLayer", "SetTrainable"],
)
def test_an_edit_of_the_config_gets_an_analysis_of_its_own(edit, model):
    """The flow names layers and says which weights are trained, so it changes with them."""
    snapshot = model()
    analyse(snapshot)
    edited = edit(snapshot)(snapshot)
    assert edited.record is not snapshot.record
    assert plain(analyse(edited)) == plain(analyse(fresh(edited)))
    assert plain(analyse(edited)) != plain(analyse(snapshot))


# --- never stale


@pytest.mark.parametrize(
    "change",
    [
        lambda table: table.__setitem__("Dense", Rule(pins="is not known")),
        lambda table: table.__delitem__("Dense"),
        lambda table: table.update(Dense=Rule(pins="is not known")),
        lambda table: table.pop("Dense"),
        lambda table: table.__ior__({"Dense": Rule(pins="is not known")}),
        lambda table: table.clear(),
        lambda table: [table.popitem() for _ in range(len(table))],
    ],
)
def test_a_change_of_the_rules_is_an_analysis_of_its_own(change, monkeypatch):
    monkeypatch.setattr("kerassurgery_fn.rules.registry.RULES", table := RuleTable(RULES))
    snapshot = chain()
    assert not analyse(snapshot).opaque
    assert cost(snapshot).macs
    change(table)
    assert "a" in analyse(snapshot).opaque
    assert not any(group.made for group in groups(snapshot))


def test_a_rule_that_a_user_registers_counts_at_once(monkeypatch):
    monkeypatch.setattr("kerassurgery_fn.rules.registry.RULES", RuleTable(RULES))
    record = functional(
        "m", {"x": (None, 3)}, call(layer("Dense", "a", units=4), "x"),
        call(layer("Scale", "s", module="mine", registered_name="mine>Scale"), "a", out=(None, 4)),
        call(layer("Dense", "b", units=2), "s"), outputs="b",
    )  # fmt: skip
    snapshot = Snapshot(record, {"s": (numbers(4),)})
    assert analyse(snapshot).opaque.keys() == {"s"}

    @rule("mine>Scale")
    def scale(layer, x, **_):
        layer.weights(scale="c", c=x[-1])
        return x

    assert not analyse(snapshot).opaque
    assert {carrier.path for carrier in groups(snapshot)[0].carried} == {"a", "s", "b"}


def test_a_rule_that_a_test_replaces_counts_until_it_is_restored(monkeypatch):
    snapshot, known = chain(), RULES["Dense"]
    before = plain(analyse(snapshot))
    with monkeypatch.context() as patch:
        patch.setitem(RULES, "Dense", replace(known, channels=None, pins="is not known"))
        assert analyse(snapshot).opaque.keys() == {"a", "relu", "b", "c"}
    assert plain(analyse(snapshot)) == before


def test_strict_rules_do_not_take_what_lenient_rules_have_swallowed(monkeypatch):
    def broken(layer, x, **_):
        raise ZeroDivisionError

    monkeypatch.setitem(RULES, "Dense", Rule(broken))
    snapshot = chain()
    with strict_rules(False):
        assert "ZeroDivisionError" in analyse(snapshot).opaque["a"]
    with strict_rules(), pytest.raises(ZeroDivisionError):
        analyse(snapshot)


def test_results_cannot_be_changed_by_mistake():
    snapshot = grouped()
    flow = analyse(snapshot)
    arrays = [producer.axis for producer in flow.producers.values()] + [flow.solution.table]
    arrays += [group.ids for group in groups(snapshot)]
    for array in arrays:
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0


# --- how long


@of_each
def test_results_keep_no_weights_and_no_snapshot(model):
    """Without the garbage collector: no result is in a circle with the snapshot."""
    snapshot = model()
    flow = analyse(snapshot)
    results = [ref(flow), ref(read_graph(snapshot)), ref(cost(snapshot)), ref(groups(snapshot)[0])]
    own = [ref(snapshot), *(ref(array) for arrays in snapshot.weights.values() for array in arrays)]
    DeleteChannels(next(iter(snapshot.weights)), [0])
    gc.collect()
    gc.disable()
    try:
        del flow, snapshot
        assert [each() for each in [*own, *results]] == [None] * (len(own) + len(results))
    finally:
        gc.enable()


def test_results_are_not_pickled():
    """What has been computed adds nothing to the pickle, and pickles of equal snapshots are equal."""
    snapshot = image()
    before = pickle.dumps(snapshot)
    analyse(snapshot), groups(snapshot), cost(snapshot)
    assert pickle.dumps(snapshot) == before
    assert pickle.loads(before) == snapshot == image()


def test_edits_of_many_layers_read_each_config_once(monkeypatch):
    reads = Counter()
    from kerassurgery_fn.graph import reading

    def counting(record, graph_of=reading.graph_of):
        reads[id(record)] += 1
        return graph_of(record)

    monkeypatch.setattr(reading, "graph_of", counting)
    snapshot = chain()
    analyse(snapshot)
    SetTrainable("*", False)(snapshot), SetConfig("b", use_bias=True)(snapshot), DeleteChannels("a", [0])(snapshot)
    assert reads[id(snapshot.record)] == 1


def test_graphs_of_nested_models_belong_to_their_model():
    """Graphs that were made of one graph share what has been read of nested models, also in several threads."""
    snapshot, start = nested(), Barrier(8)
    graph = read_graph(snapshot)
    key = next(key for key, record in graph.layers.items() if "layers" in record["config"])

    def read(number):
        record = set_in(graph.layers[key], ("config", "name"), f"inner_{number % 2}")
        changed = replace(graph, layers={**graph.layers, key: record})
        start.wait()
        return [nested_graph(changed, key).record is record for _ in range(200)]

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)  # threads take turns all the time
    try:
        with ThreadPoolExecutor(8) as pool:
            assert all(map(all, pool.map(read, range(8))))
    finally:
        sys.setswitchinterval(interval)
