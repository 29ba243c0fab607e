"""What a model costs: figures worked out by hand on records, and Keras' own figures on live models."""

import re
from dataclasses import replace

import numpy as np
import pytest

from helpers.records import DTYPE, call, constant, functional, layer, operation, sequential, snapshot, thing
from kerassurgery_fn import analyse, cost
from kerassurgery_fn.analysis.layer_costs import cost_of
from kerassurgery_fn.errors import UnknownLayer, WrongShape
from kerassurgery_fn.rules import RULES, Rule

IMAGE = (None, 6, 6, 4)


def conv(name, filters, size=3, kind="Conv2D", **config):
    return layer(kind, name, filters=filters, kernel_size=[size, size], **config)


def rows(record, shapes=None):
    """Name of each layer that costs anything -> parameters, trainable ones, MACs, bytes."""
    found = cost(snapshot(record), shapes)
    assert not any(row.note for row in found.layers), found
    return {
        row.path: (row.parameters, row.trainable, row.macs, row.bytes)
        for row in found.layers if row.parameters or row.macs
    }  # fmt: skip


def macs_of(record, shapes=None):
    return {path: row[2] for path, row in rows(record, shapes).items()}


# --- by hand


def test_a_dense_layer_and_a_convolution():
    record = sequential("net", IMAGE, conv("c", 8), layer("Flatten", "f"), layer("Dense", "d", units=5))
    kernel = 3 * 3 * 4 * 8
    assert rows(record) == {
        "c": (kernel + 8, kernel + 8, kernel * 4 * 4, 4 * (kernel + 8)),
        "d": (128 * 5 + 5, 128 * 5 + 5, 128 * 5, 4 * (128 * 5 + 5)),
    }


def test_totals_are_sums():
    total = cost(snapshot(sequential("net", IMAGE, conv("c", 8), layer("BatchNormalization", "n"))))
    assert (total.parameters, total.trainable, total.macs, total.bytes) == (296 + 32, 296 + 16, 288 * 16, 4 * 328)


def test_dense_on_a_sequence_counts_every_step():
    assert macs_of(sequential("net", (None, 7, 3), layer("Dense", "d", units=5))) == {"d": 7 * 3 * 5}


def test_a_shared_layer_has_its_weights_once_and_its_macs_at_every_call():
    record = functional(
        "net", {"x": (None, 4), "y": (None, 4)},
        call(layer("Dense", "d", units=3), "x"),
        call("d", "y"),
        call(layer("Add", "sum"), [("d", 0, 0), ("d", 1, 0)]),
        outputs="sum",
    )  # fmt: skip
    assert rows(record) == {"d": (15, 15, 2 * 12, 60)}


def test_a_nested_model_is_counted_by_its_layers_at_every_call():
    inner = functional("inner", {"i": (None, 4)}, call(layer("Dense", "d", units=4), "i"), outputs="d")
    record = functional("net", {"x": (None, 4)}, call(inner, "x"), call("inner", ("inner", 0, 0)), outputs="inner")
    assert rows(record) == {"inner/d": (20, 20, 2 * 16, 80)}


def test_frozen_layers_and_frozen_models_do_not_train():
    frozen = layer("Dense", "b", units=2, trainable=False)
    record = sequential("net", (None, 4), layer("Dense", "a", units=3), frozen)
    assert [row[1] for row in rows(record).values()] == [15, 0]
    record["config"]["trainable"] = False
    assert [row[1] for row in rows(record).values()] == [0, 0]


@pytest.mark.parametrize(
    "policy, width",
    [
        ("float32", 4), ("float64", 8), ("float16", 2), ("bfloat16", 2), ("mixed_float16", 4), ("mixed_bfloat16", 4),
        (DTYPE, 4), (thing("keras", "DTypePolicy", {"name": "float16"}), 2),
        (thing("keras.dtype_policies", "DTypePolicyMap", {"default_policy": "float16", "policy_map": {}}), 2),
    ],
)  # fmt: skip
def test_bytes_follow_the_variable_dtype_of_the_policy(policy, width):
    record = sequential("net", (None, 4), layer("Dense", "a", units=3, dtype=policy))
    assert rows(record)["a"][3] == 15 * width


def test_bytes_are_those_of_the_arrays_where_there_are_any():
    weights = {"a": (np.zeros((4, 3), np.float16), np.zeros(3, np.float64))}
    record = sequential("net", (None, 4), layer("Dense", "a", units=3))
    assert cost(snapshot(record, weights)).bytes == 12 * 2 + 3 * 8


def test_lookups_and_elementwise_weights_multiply_nothing():
    record = functional(
        "net", {"x": (None, 7)},
        call(layer("Embedding", "e", input_dim=10, output_dim=4), "x"),
        call(layer("PReLU", "p", shared_axes=None), "e", out=(None, 7, 4)),
        call(layer("Dense", "d", units=2), "p"),
        outputs="d",
    )  # fmt: skip
    assert macs_of(record) == {"e": 0, "p": 0, "d": 7 * 8}


def test_operations_on_constants_multiply():
    record = functional(
        "net", {"x": (None, 5, 3)},
        call(operation("Matmul", "m"), "x", constant(np.ones((3, 4))), out=(None, 5, 4)),
        call(operation("Einsum", "e", subscripts="bij,bkj->bik"), "m", "m", out=(None, 5, 5)),
        outputs="e",
    )  # fmt: skip
    assert macs_of(record) == {"m": 5 * 3 * 4, "e": 5 * 5 * 4}


def test_a_fixed_batch_counts_as_one_sample():
    record = sequential("net", (8, 6, 6, 4), conv("c", 8), layer("Flatten", "f"), layer("Dense", "d", units=5))
    assert macs_of(record) == {"c": 288 * 16, "d": 128 * 5}


# --- open sizes


def open_sizes():
    return sequential("net", (None, None, None, 4), conv("a", 8, strides=[2, 2], padding="same"), conv("b", 2, 1))


def test_an_open_size_counts_as_one_position_or_as_given(monkeypatch):
    from helpers import records

    # the shapes of a strided convolution of unknown size, which records.py does not work out
    monkeypatch.setitem(records.SHAPES, "Conv2D", lambda config, x: [*x[:-1], config["filters"]])
    record = open_sizes()
    assert macs_of(record) == {"a": 288, "b": 16}
    assert macs_of(record, (9, 6, 4)) == {"a": 288 * 5 * 3, "b": 16 * 5 * 3}
    assert macs_of(record, {"net_input": (None, 6, None)}) == {"a": 288 * 3, "b": 16 * 3}


@pytest.mark.parametrize("shape", [(6, 6), (6, 6, 5), (5, 6, 4), {"net_input": (None, 6, 6, 4)}], ids=str)
def test_a_shape_that_does_not_fit_is_refused(shape):
    with pytest.raises(WrongShape, match=re.escape("'net_input' has the shape (6, 6, 4) in the config")):
        cost(snapshot(sequential("net", IMAGE, conv("c", 8))), shape)


def test_shapes_name_inputs():
    record = functional(
        "net", {"x": (None, None, 3), "y": (None, None, 3)},
        call(layer("Concatenate", "c", axis=1), ["x", "y"], out=(None, None, 3)),
        call(layer("Dense", "d", units=2), "c"),
        outputs="d",
    )  # fmt: skip
    assert macs_of(record, {"x": (4, 3), "y": (5, 3)}) == {"d": 9 * 6}
    with pytest.raises(WrongShape, match="the model has 2 inputs; give a mapping of x, y to shapes"):
        cost(snapshot(record), (4, 3))
    with pytest.raises(UnknownLayer, match="no input named 'z'; there are x, y"):
        cost(snapshot(record), {"z": (4, 3)})


# --- layers that nothing is known of


def odd(name):
    record = layer("Odd", name, module="mine", registered_name="mine>Odd")
    return {**record, "build_config": {"input_shape": [None, 7, 4]}}


def with_odd():
    record = functional(
        "net", {"x": (None, 7, 4)},
        call(odd("o"), "x", out=(None, 7, 6)),
        call(layer("Dense", "d", units=2), "o"),
        outputs="d",
    )  # fmt: skip
    return snapshot(record, {"o": (np.zeros((4, 6)), np.zeros(6)), "d": (np.zeros((6, 2)), np.zeros(2))})


def test_an_opaque_layer_is_estimated_from_its_arrays_and_noted():
    _, row, dense = cost(with_odd()).layers
    assert (row.parameters, row.trainable, row.macs, row.bytes) == (30, 30, 7 * 24, 30 * 8)
    assert "mine>Odd" in row.note
    assert dense.note == ""


def test_the_record_of_a_class_teaches_its_count(monkeypatch):
    monkeypatch.setitem(RULES, "mine>Odd", Rule(pins="is odd", macs=lambda use, x: 2 * use.kernels * x[1]))
    assert cost(with_odd()).layers[1].macs == 2 * 7 * 24


@pytest.mark.usefixtures("lenient_rules")
def test_a_count_that_fails_leaves_an_estimate_and_a_note(monkeypatch):
    monkeypatch.setitem(RULES, "Dense", replace(RULES["Dense"], macs=lambda use, x: 1 // 0))
    row = cost(with_odd()).layers[2]
    assert (row.macs, row.note) == (
        7 * 12, "the count of its MACs fails (ZeroDivisionError: integer division or modulo by zero)"
    )  # fmt: skip


# --- what a cut would leave


def test_the_cost_without_dead_channels_is_known_before_the_cut():
    record = sequential("net", IMAGE, conv("a", 8), layer("BatchNormalization", "n"), conv("b", 2, 4))
    before = snapshot(record)
    flow = analyse(before)
    dead = flow.solution.none_dead()
    dead[flow.solution.resolve(flow.producer("a").axis)[0, :3]] = True
    smaller = sequential("net", IMAGE, conv("a", 5), layer("BatchNormalization", "n"), conv("b", 2, 4))
    assert cost_of(before, flow, dead) == cost(snapshot(smaller))
    assert cost_of(before, flow, flow.solution.none_dead()) == cost_of(before, flow) == cost(before)


# --- printing


def test_a_cost_prints_as_a_table():
    assert repr(cost(with_odd())) == (
        "layer  class  parameters  trainable  MACs  bytes\n"
        "o      Odd            30         30   168    240  ~\n"
        "d      Dense          14         14    84    112\n"
        "total                 44         44   252    352\n"
        "1 more layer without weights or multiplications\n"
        "~ o: it is of the class mine>Odd, which has no rule; add one by a function under "
        '@kerassurgery_fn.rule("mine>Odd")'
    )
