"""The walk that runs the rules, with collectors of our own."""

import pytest

from helpers.records import call, functional, layer, snapshot
from kerassurgery_fn.analysis.rule_walk import walk
from kerassurgery_fn.graph import read_graph, refs, trace
from kerassurgery_fn.rules.strictness import strict_rules


class Depth:
    """How many calls there are on the longest way to each call. Its rule adds one to the deepest input."""

    expected = (LookupError,)

    def __init__(self):
        self.depths, self.refused = {}, {}

    def rule(self, call):
        if call.record["class_name"] == "Gate":
            return lambda *_: {}[call.path]
        if call.record["class_name"] == "Odd":
            return lambda *_: 1 // 0
        return lambda *depths: 1 + max(depths, default=0)

    def arguments(self, call, rule):
        return [self.depths.get(ref.path, 0) for ref in refs([call.args, call.kwargs])], {}

    def collect(self, call, rule, outputs):
        (self.depths[call.path],) = outputs

    def refuse(self, call, rule, error):
        self.refused[call.path] = type(error)


def walked(*classes):
    """The collector after a walk through a chain of layers of these classes."""
    names = [f"l{i}" for i in range(len(classes))]
    calls = [
        call(layer(kind, name), below, out=(None, 4))
        for kind, name, below in zip(classes, names, ["x", *names], strict=False)
    ]
    graph = read_graph(snapshot(functional("net", {"x": (None, 4)}, *calls, outputs=names[-1])))
    collector = Depth()
    walk(trace(graph).calls, collector)
    return collector


def test_each_call_reads_outputs_of_earlier_calls():
    assert walked("ReLU", "ReLU", "Dropout").depths == {"x": 1, "l0": 2, "l1": 3, "l2": 4}


def test_an_expected_exception_is_told_to_the_collector_and_the_walk_goes_on():
    collector = walked("ReLU", "Gate", "ReLU")
    assert collector.refused == {"l1": KeyError}
    assert collector.depths == {"x": 1, "l0": 2, "l2": 1}


def test_an_unexpected_exception_is_raised_in_strict_mode_and_told_to_the_collector_otherwise():
    with pytest.raises(ZeroDivisionError):
        walked("ReLU", "Odd")
    with strict_rules(False):
        assert walked("ReLU", "Odd").refused == {"l1": ZeroDivisionError}
