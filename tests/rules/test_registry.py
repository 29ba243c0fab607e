"""How the records of classes are registered, and what the fields of a record of one's own do."""

import pytest

from helpers.pictures import between
from helpers.records import call, functional, layer
from kerassurgery_fn import WidenChannels, cost
from kerassurgery_fn.errors import BadValue, CannotWiden, UnknownField
from kerassurgery_fn.rules import RULES, rule
from kerassurgery_fn.rules.registry import pins
from kerassurgery_fn.values.snapshot import Snapshot


@pytest.fixture(autouse=True)
def only_for_this_test(monkeypatch):
    for name, record in [*RULES.items()]:
        monkeypatch.setitem(RULES, name, record)
    yield
    RULES.pop("mine>Gate", None)


def gate(layer, inputs, **_):
    return inputs


def test_a_field_that_no_record_has_is_refused():
    with pytest.raises(UnknownField, match=r"the rule for mine>Gate: .* no field 'aproximate'; did you mean 'approx"):
        rule("mine>Gate", aproximate="over time")
    with pytest.raises(UnknownField, match="no field 'masking'"):
        pins("is closed", "mine>Gate", masking=True)
    with pytest.raises(BadValue, match="approximate must be a string"):
        rule("mine>Gate", approximate=True)
    assert "mine>Gate" not in RULES


def test_a_class_of_another_package_takes_any_arguments_by_default():
    rule("mine>Gate")(gate)
    assert RULES["mine>Gate"].arguments is None
    rule("mine>Gate", arguments=("inputs", "gates"))(gate)
    assert RULES["mine>Gate"].arguments == ("inputs", "gates")


def gated(units):
    gates = layer("Gate", "gate", module="mine", registered_name="mine>Gate")
    record = functional(
        "net", {"x": (None, 3)},
        call(layer("Dense", "a", units=units), "x"), call(gates, "a", out=(None, units)),
        call(layer("Dense", "b", units=2), "gate"), outputs="b",
    )  # fmt: skip
    return Snapshot(record, {"a": between(3, units), "b": between(units, 2)})


def test_channels_that_a_layer_of_ones_own_reads_are_copied_where_its_rule_says_so():
    rule("mine>Gate")(gate)
    with pytest.raises(CannotWiden, match=r"'gate' \(mine>Gate\) is not known to compute the same"):
        WidenChannels("a", 5)(gated(4))
    rule("mine>Gate", equal_channels=True)(gate)
    assert WidenChannels("a", 5)(gated(4)).record == gated(5).record


def test_the_macs_of_a_layer_of_ones_own_are_counted_by_its_rule():
    rule("mine>Gate", macs=lambda layer, x: x[1])(gate)
    rows = {row.path: row.macs for row in cost(gated(4)).layers}
    assert (rows["gate"], rows["a"]) == (4, 12)


def test_a_record_shows_what_it_states():
    shown = repr(RULES["Conv2D"])
    assert shown.startswith("Rule(channels=conv, ")
    assert "rank=4, requires=(check_groups)" in shown
    assert "masks" not in shown
