"""`explain`: what an edit would do and why."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.records import call, functional, layer, numbers, sequential, snapshot
from kerassurgery_fn.analysis.layer_costs import cost
from kerassurgery_fn.channels import Reason
from kerassurgery_fn.documents.plan_algebra import lost_channels
from kerassurgery_fn.documents.preconditions import made_for
from kerassurgery_fn.edits import DeleteChannels, InsertLayer, KeepChannels
from kerassurgery_fn.edits.plan import Plan
from kerassurgery_fn.errors import ChannelOutOfRange, OtherModel
from kerassurgery_fn.report.explanation import explain
from kerassurgery_fn.report.reason_chains import Link, tying_layer
from kerassurgery_fn.values.tables import Table, spans, to_text


def dense(name, units=4):
    return layer("Dense", name, units=units)


# a and b are joined by sum_1, b and c by sum_2; d reads both sums one behind the other.
SUMS = snapshot(
    functional(
        "net",
        {"x": (None, 3)},
        call(dense("a"), "x"),
        call(dense("b"), "x"),
        call(dense("c"), "x"),
        call(layer("Add", "sum_1"), ["a", "b"]),
        call(layer("Add", "sum_2"), ["b", "c"]),
        call(layer("Concatenate", "both"), ["sum_1", "sum_2"]),
        call(dense("d", 2), "both"),
        outputs="d",
    ),
    {**{name: (numbers(3, 4), numbers(4)) for name in "abc"}, "d": (numbers(8, 2), numbers(2))},
)


def loss(explanation, path):
    return next(one for one in explanation.losses if one.path == path)


def test_selected_channels_have_the_cause_selected():
    made = loss(explain(DeleteChannels("a", [1, 3]), SUMS), "a")
    assert (made.class_name, made.kind, made.channels, made.total) == ("Dense", "units", (1, 3), 4)
    assert [(cause.channels, cause.reason, cause.chain) for cause in made.causes] == [
        ((1, 3), "selected by the edit", ())
    ]


def test_the_chain_of_ties_leads_back_to_the_selected_channel():
    made = explain(DeleteChannels("a", [1, 3]), SUMS)
    assert loss(made, "b").causes[0].chain == (Link("Add 'sum_1'", "a", 1),)
    (cause,) = loss(made, "c").causes
    assert cause.chain == (Link("Add 'sum_2'", "b", 1), Link("Add 'sum_1'", "a", 1))
    assert cause.reason == "Add 'sum_2' ties them to b, which Add 'sum_1' ties to a"
    assert str(cause.chain[0]) == "Add 'sum_2' ties it to b channel 1"


def test_channels_of_one_layer_have_different_causes():
    made = explain(DeleteChannels({"a": [0], "b": [2]}), SUMS)
    assert [(cause.channels, cause.reason) for cause in loss(made, "b").causes] == [
        ((0,), "Add 'sum_1' ties them to a"),
        ((2,), "selected by the edit"),
    ]


def test_layers_inserted_at_once_are_inserted_before_the_cut():
    edit = Plan.at_once(DeleteChannels("a", [1]), InsertLayer(layer("Dense", "p", units=4), after="a"))
    made = explain(edit, SUMS)
    assert [(one.path, one.channels) for one in made.losses] == [("a", (1,))]  # b is tied to p, no longer to a
    assert {(cut.path, cut.axis) for cut in made.cuts} == {("a", 0), ("a", 1), ("p", 0)}
    assert "b" not in lost_channels(edit, SUMS)


def test_keep_channels_selects_all_other_channels():
    made = explain(KeepChannels("a", [0]), SUMS)
    assert [cause.reason for cause in loss(made, "a").causes] == ["selected by the edit"]
    assert loss(made, "a").channels == (1, 2, 3)


def test_weight_cuts_name_the_layers_of_the_channels():
    made = explain(DeleteChannels("a", [1]), SUMS)
    cuts = {(cut.path, cut.weight, cut.axis): (cut.positions, cut.total, cut.producers) for cut in made.cuts}
    assert cuts == {
        ("a", "kernel", 1): ((1,), 4, ("a",)),
        ("a", "bias", 0): ((1,), 4, ("a",)),
        ("b", "kernel", 1): ((1,), 4, ("b",)),
        ("b", "bias", 0): ((1,), 4, ("b",)),
        ("c", "kernel", 1): ((1,), 4, ("c",)),
        ("c", "bias", 0): ((1,), 4, ("c",)),
        ("d", "kernel", 0): ((1, 5), 8, ("a", "b")),
    }


@given(st.dictionaries(st.sampled_from("abc"), st.lists(st.integers(0, 2)), min_size=1))
@settings(deadline=None, derandomize=True, max_examples=40)
def test_the_explanation_agrees_with_the_edit(channels):
    edit = DeleteChannels(channels)
    made, after = explain(edit, SUMS), edit(SUMS)
    cut = {path: [*arrays] for path, arrays in SUMS.weights.items()}
    for one in made.cuts:
        cut[one.path][one.slot] = np.delete(cut[one.path][one.slot], one.positions, axis=one.axis)
    assert {path: [a.tolist() for a in arrays] for path, arrays in cut.items()} == {
        path: [a.tolist() for a in arrays] for path, arrays in after.weights.items()
    }
    assert (made.before, made.after) == (cost(SUMS), cost(after))
    for one in made.losses:
        assert sorted(channel for cause in one.causes for channel in cause.channels) == list(one.channels)
        assert all(cause.chain[-1].address in channels for cause in one.causes if cause.chain)


def test_a_branch_without_channels_is_removed_as_a_whole():
    record = functional(
        "net",
        {"x": (None, 3)},
        call(dense("a"), "x"),
        call(dense("b", 5), "a"),
        call(dense("c"), "x"),
        call(layer("Concatenate", "both"), ["b", "c"]),
        call(dense("d", 2), "both"),
        outputs="d",
    )
    weights = {"a": (numbers(3, 4), numbers(4)), "b": (numbers(4, 5), numbers(5)), "c": (numbers(3, 4), numbers(4))}
    made = explain(DeleteChannels("a", range(4)), snapshot(record, {**weights, "d": (numbers(9, 2), numbers(2))}))
    assert [cause.reason for cause in loss(made, "b").causes] == ["their whole branch is removed"]
    assert {"a", "b", "both"} <= {*made.difference.removed}
    assert "removed" in str(made)


def test_channels_tied_by_a_grid_are_explained():
    grouped = layer("Conv2D", "grouped", filters=4, kernel_size=[1, 1], groups=2)
    record = sequential("net", (None, 2, 2, 3), layer("Conv2D", "a", filters=4, kernel_size=[1, 1]), grouped)
    made = explain(
        DeleteChannels("grouped", [0, 1], allow_output_change=True),
        snapshot(record, {"a": (numbers(1, 1, 3, 4), numbers(4)), "grouped": (numbers(1, 1, 2, 4), numbers(4))}),
    )
    (cause,) = loss(made, "a").causes
    assert cause.channels == (0, 1)
    assert "'grouped'" in cause.reason


def test_inexact_cuts_give_warnings():
    norm = layer("LayerNormalization", "norm", axis=-1, center=True, scale=True, epsilon=1e-3, rms_scaling=False)
    norm["build_config"] = {"input_shape": [None, 4]}
    record = functional(
        "net", {"x": (None, 3)}, call(dense("a"), "x"), call(norm, "a", out=(None, 4)), call(dense("b"), "norm"),
        outputs="b",
    )  # fmt: skip
    weights = {"a": (numbers(3, 4), numbers(4)), "norm": (numbers(4), numbers(4)), "b": (numbers(4, 4), numbers(4))}
    model = snapshot(record, weights)
    (warning,) = explain(DeleteChannels("a", [0]), model).warnings
    assert "'norm' normalises over the channels" in warning
    assert warning in to_text(explain(DeleteChannels("a", [0]), model), 200)
    assert explain(DeleteChannels({}), model).warnings == ()


def test_a_plan_is_explained_step_by_step():
    plan = Plan(DeleteChannels("a", [0]), DeleteChannels("a", [0]))
    made = explain(plan, SUMS)
    assert [step.losses[0].total for step in made.steps] == [4, 3]
    assert (made.before, made.after) == (cost(SUMS), cost(plan(SUMS)))
    assert str(made).count("deleted channels") == 2
    assert str(made).count("cost") == 1


def test_other_edits_are_explained_by_their_difference():
    def renamed(model):
        record = model.record
        return type(model)(
            {**record, "config": {**record["config"], "name": "other"}},
            model.weights,
        )

    made = explain(renamed, SUMS)
    assert made.losses == made.cuts == ()
    assert made.difference.changed == {"": {"/config/name": ("net", "other")}}


def test_explain_changes_nothing_and_raises_the_errors_of_the_edit():
    before = SUMS.weights["a"][0]
    explain(DeleteChannels("a", [0]), SUMS)
    assert SUMS.weights["a"][0] is before
    with pytest.raises(ChannelOutOfRange):
        explain(DeleteChannels("a", [9]), SUMS)


def test_a_plan_for_another_model_is_not_explained():
    plan = made_for(DeleteChannels("a", [0]), SUMS)
    assert explain(plan, SUMS).losses == explain(plan.plan, SUMS).losses
    with pytest.raises(OtherModel):
        explain(plan, DeleteChannels("a", [0])(SUMS))


@pytest.mark.parametrize(
    "reason, words",
    [
        (Reason("joins it with positions that are not channels", "res_3", "Add"), "Add 'res_3'"),
        (Reason("is called several times, on different channels", "body/conv"), "'body/conv' (called several times)"),
        (Reason("something else"), "the model"),
    ],
)
def test_a_tie_is_named_by_its_layer(reason, words):
    assert tying_layer(reason) == words


# --- how it looks


def test_the_text_fits_80_columns_and_is_complete():
    text = str(explain(DeleteChannels("a", [1, 3]), SUMS))
    assert max(map(len, text.splitlines())) <= 80
    for words in ("2 of 4 units", "Add 'sum_2' ties them to b", "kernel axis 0", "parameters"):
        assert words in text.replace("\n", " "), text


def test_the_html_tables_are_escaped():
    html = explain(DeleteChannels("a", [1]), SUMS)._repr_html_()
    assert html.count("<table") == html.count("</table>") == 3
    assert "&#39;sum_1&#39;" in html
    assert "<script>" not in Table("<script>", ("<b>",), (("<i>",),), ("<u>",))._repr_html_()


@pytest.mark.parametrize(
    "positions, words",
    [([], ""), ([3], "3"), ([0, 1, 2], "0-2"), ([0, 2, 3, 9], "0 2-3 9"), (range(0, 40, 2), "0 2 4 and 17 more")],
)
def test_positions_are_written_as_spans(positions, words):
    assert spans(positions, 3 if len(positions) > 4 else 12) == words


def test_changes_other_than_channels_are_shown():
    def tuned(model):
        kernel, bias = model.weights["d"]
        return type(model)(model.record, {**model.weights, "d": (kernel * np.float32(2), bias)})

    text = " ".join(str(explain(tuned, SUMS)).split())
    assert "weights with new values" in text
    assert "100.00%" in text


@pytest.mark.parametrize("edit", [DeleteChannels("?", [1]), KeepChannels("[ab]*@Dense", [0, 2, 3])])
def test_a_pattern_selects_every_matching_layer(edit):
    whole = snapshot(functional(
        "net", {"x": (None, 3)}, call(dense("a"), "x"), call(dense("b"), "a"), call(dense("out", 2), "b"),
        outputs="out",
    ))  # fmt: skip
    made = explain(edit, whole)
    assert [(one.path, one.channels, one.causes[0].reason) for one in made.losses] == [
        ("a", (1,), "selected by the edit"), ("b", (1,), "selected by the edit"),
    ]  # fmt: skip
