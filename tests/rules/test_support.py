"""The table of what is supported: complete for the Keras that it names and for older ones, up to date, and true.

It is true if the models of the law tests say so: a class is exact if such models are cut exactly with it inside, and
approximate if its rule says so of one. Classes that pin have a test of their own, in test_opaque.py.
"""

import itertools
from collections import defaultdict

import pytest

from helpers.keras_classes import key_of_class, layer_classes, operation_classes
from helpers.law_models import call_law_tests
from helpers.older import IS_OLDER
from kerassurgery_fn import analyse, capture
from kerassurgery_fn.graph import Record
from kerassurgery_fn.rules import RULES
from kerassurgery_fn.rules.registry import key_of
from kerassurgery_fn.rules.support import FILE, as_markdown, support

UNTRIED = {  # called exact without a law test
    "StringLookup": "has a test of its own, in test_adapters.py, as no random numbers are strings",
    "ops.Abs": "is never made: ops.abs makes an Absolute",
    "ops.Conj": "is never made: ops.conj makes a Conjugate",
    "ops.Mish": "cannot be called on the tensors of a model",
    "ops.AdaptiveAveragePool": "states a shape of one axis too many, so that its rule is not used",
    "ops.AdaptiveMaxPool": "states a shape of one axis too many, so that its rule is not used",
    "ops.ConvTranspose": "cannot be run: it hands its arguments on in another order",
}


@pytest.mark.keras
def test_every_layer_of_keras_is_in_the_table():
    classes = layer_classes()
    assert IS_OLDER or len(classes) >= 147
    assert {key_of_class(cls) for cls in classes} - {row.name for row in support()} == set()


@pytest.mark.keras
@pytest.mark.skipif(IS_OLDER, reason="an older Keras has operations that it has no more today")
def test_every_operation_of_keras_is_in_the_table():
    classes = operation_classes()
    assert len(classes) >= 330
    assert {key_of_class(cls) for cls in classes} - {row.name for row in support()} == set()


@pytest.mark.keras
@pytest.mark.skipif(IS_OLDER, reason="an older Keras has fewer classes than the table")
def test_every_row_of_the_table_is_a_class_of_keras():
    known = {key_of_class(cls) for cls in layer_classes() | operation_classes()}
    assert {row.name for row in support()} - known == set()


def test_a_class_has_a_rule_or_a_reason_to_have_none():
    assert all((known.channels is None) == bool(known.pins) for known in RULES.values())
    assert all(row.note for row in support() if row.degree != "exact")


def test_the_file_is_up_to_date():
    assert FILE.read_text(encoding="utf-8") == as_markdown(), "run python -m kerassurgery_fn.rules.support"


def test_the_readme_links_to_the_table():
    readme = FILE.parent.parent.parent / "README.md"
    assert "(kerassurgery_fn/rules/SUPPORT.md)" in readme.read_text(encoding="utf-8")


# --- what the law tests say


class Evidence:
    """The classes in the models that the law tests check: those that were cut exactly and those that were not."""

    def __init__(self):
        self.exact, self.approximate = defaultdict(list), defaultdict(list)

    def take(self, model, *_, inexact=False, pinned=False, **__):
        """Stands in for `check_law`, which the tests themselves call."""
        from helpers.laws import Verdict

        flow = analyse(snapshot := capture(model))
        named = {one.path for one in flow.inexact}
        calls = itertools.chain(flow.trace.calls, *(inner.calls for inner in flow.trace.inner.values()))
        for call in calls:
            layers = list(records(call.record))
            if call.path in named and len(layers) == 1 and not across(call.record):
                self.approximate[key_of(call.record)].append(model.name)
            elif call.path not in flow.opaque:
                for record in layers:
                    self.exact[key_of(record)].append(model.name)
        return Verdict(0, 1, 1, snapshot)


def records(record: Record):
    """A record of a layer and those of the layers and cells inside it."""
    yield record
    config = record["config"]
    inner = [config.get(field) for field in ("layer", "backward_layer", "cell")]
    for one in [*inner, *config.get("cells", ()), *config.get("layers", ())]:
        if isinstance(one, dict) and "class_name" in one:
            yield from records(one)


def across(record: Record):
    """Whether it is an activation of a layer that looks across channels, not the layer itself."""
    return record["config"].get("activation") is not None


@pytest.fixture(scope="module")
def evidence():
    """What comes of every parametrised law test, called with `check_law` replaced."""
    found = Evidence()
    call_law_tests(found.take)
    return found


@pytest.mark.slow
@pytest.mark.keras
@pytest.mark.skipif(IS_OLDER, reason="an older Keras has fewer classes than the table")
def test_the_degrees_are_what_the_laws_say(evidence):
    exact, approximate = ({row.name for row in support() if row.degree == one} for one in ("exact", "approximate"))
    wrong = {
        "called exact, but in no law": exact - evidence.exact.keys() - UNTRIED.keys(),
        "tried after all": UNTRIED.keys() & evidence.exact.keys(),
        "called exact, but not so in a law": exact & evidence.approximate.keys(),
        "called approximate, but not so in any law": approximate - evidence.approximate.keys(),
    }
    assert not any(wrong.values()), "; ".join(f"{words}: {', '.join(sorted(names))}" for words, names in wrong.items())
