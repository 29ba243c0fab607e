"""Edits compose with toolz, and work on whole models at once."""

from toolz import compose, curry, pipe

from helpers.records import layer, sequential, snapshot
from kerassurgery_fn.edits import DeleteChannels, DeleteLayer, RenameLayer, SetTrainable
from kerassurgery_fn.graph import reading
from kerassurgery_fn.graph.reading import graph_of

CHAIN = snapshot(
    sequential(
        "chain",
        (None, 4),
        layer("Dense", "a", units=3),
        layer("Dropout", "drop", rate=0.5),
        layer("Dense", "b", units=2),
    )
)
STEP_BY_STEP = RenameLayer("a", "first")(DeleteLayer("drop")(DeleteChannels("a", [0])(CHAIN)))


def test_a_pipe_applies_edits_from_left_to_right():
    assert pipe(CHAIN, DeleteChannels("a", [0]), DeleteLayer("drop"), RenameLayer("a", "first")) == STEP_BY_STEP


def test_compose_makes_one_function_of_edits_the_last_one_first():
    edit = compose(RenameLayer("a", "first"), DeleteLayer("drop"), DeleteChannels("a", [0]))
    assert edit(CHAIN) == STEP_BY_STEP


def test_curry_takes_the_arguments_of_an_edit_one_by_one():
    delete_from_a = curry(lambda layer, channels: DeleteChannels(layer, channels))("a")
    assert delete_from_a([0]) == DeleteChannels("a", [0])
    assert pipe(CHAIN, delete_from_a([0]), DeleteLayer("drop"), RenameLayer("a", "first")) == STEP_BY_STEP


def test_an_edit_of_many_layers_reads_the_config_once(monkeypatch):
    chain = snapshot(sequential("chain", (None, 4), *[layer("Dense", f"d{i}", units=4) for i in range(20)]))
    readings = []
    monkeypatch.setattr(reading, "graph_of", lambda record: readings.append(record) or graph_of(record))
    frozen = SetTrainable("*", False)(chain)
    assert len(readings) == 1
    assert not any(record["config"]["trainable"] for record in frozen.record["config"]["layers"][1:])
