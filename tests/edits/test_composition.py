"""Edits compose with toolz, and work on whole models at once."""

import numpy as np
import pytest
from toolz import compose, curry, pipe

from helpers.counting import calls
from helpers.kept import fresh
from helpers.records import call, functional, layer, numbers, sequential, snapshot
from kerassurgery_fn.edits import (
    ConvertDtype,
    DeepenLayer,
    DeleteBlock,
    DeleteChannels,
    DeleteLayer,
    FoldBatchNorm,
    InsertLayer,
    RenameLayer,
    ReplaceLayer,
    SetConfig,
    SetTrainable,
)
from kerassurgery_fn.edits.plan import Plan
from kerassurgery_fn.graph import reading
from kerassurgery_fn.graph.reading import graph_of
from kerassurgery_fn.values.snapshot import Snapshot

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
    assert readings == [chain.record]
    assert not any(record["config"]["trainable"] for record in frozen.record["config"]["layers"][1:])


def layers_of(count):
    """A chain of Dense, BatchNormalization and ReLU layers."""
    kinds = [("Dense", "dense", {"units": 4}), ("BatchNormalization", "norm", {}), ("ReLU", "relu", {})]
    layers = [layer(kind, f"{name}_{i}", **config) for i in range(count) for kind, name, config in kinds]
    weights = {f"dense_{i}": (numbers(4, 4), numbers(4)) for i in range(count)}
    weights |= {f"norm_{i}": tuple(np.ones(4, np.float32) for _ in range(4)) for i in range(count)}
    return snapshot(sequential("chain", (None, 4), *layers), weights)


def blocks_of(count):
    """Residual blocks of one Dense layer each."""
    calls = [call(layer("Dense", "sum_0", units=4), "x")]
    for i in range(count):
        calls.append(call(layer("Dense", f"dense_{i}", units=4), f"sum_{i}"))
        calls.append(call(layer("Add", f"sum_{i + 1}"), [f"sum_{i}", f"dense_{i}"]))
    return snapshot(functional("blocks", {"x": (None, 4)}, *calls, outputs=f"sum_{count}"))


def work(edit, model):
    """The number of Python functions that an edit calls, generators counted at each item."""
    assert edit(model) != model  # what is imported once does not count
    return calls(lambda: edit(fresh(model)), events=("call",))


DROPOUT = Snapshot(layer("Dropout", "dropout"), {})
EDITS_OF_MANY_LAYERS = {
    "SetTrainable": lambda n: SetTrainable("*", False),
    "SetConfig": lambda n: SetConfig("*@ReLU", negative_slope=0.3),
    "ConvertDtype": lambda n: ConvertDtype("float16"),
    "FoldBatchNorm": lambda n: FoldBatchNorm(),
    "DeleteLayer": lambda n: DeleteLayer("*@ReLU"),
    "InsertLayer": lambda n: InsertLayer(DROPOUT, after="dense_*"),
    "InsertLayer before": lambda n: InsertLayer(DROPOUT, before="dense_*"),
    "ReplaceLayer": lambda n: ReplaceLayer("relu_*", DROPOUT),
    "DeepenLayer": lambda n: DeepenLayer("dense_*"),
    "DeleteChannels": lambda n: DeleteChannels("dense_*", [0], allow_output_change=True),
    "RenameLayer": lambda n: Plan.at_once(*(RenameLayer(f"dense_{i}", f"first_{i}") for i in range(n))),
    "DeleteChannels at once": lambda n: Plan.at_once(*(DeleteChannels(f"dense_{i}", [0]) for i in range(n - 1))),
}


@pytest.mark.parametrize("edit_of", EDITS_OF_MANY_LAYERS.values(), ids=EDITS_OF_MANY_LAYERS)
def test_the_work_of_an_edit_is_linear_in_the_number_of_layers(edit_of):
    """Twice as many layers are twice as much work. An edit that looks at all layers for each layer fails."""
    models = {n: layers_of(n) for n in (15, 30, 60)}
    small, middle, large = (work(edit_of(n), model) for n, model in models.items())
    assert large - middle < 2.2 * (middle - small)


def test_the_work_of_deleting_all_blocks_is_linear_in_their_number():
    small, middle, large = (work(DeleteBlock("sum_*"), blocks_of(n)) for n in (15, 30, 60))
    assert large - middle < 2.2 * (middle - small)
