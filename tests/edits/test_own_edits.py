"""Edits that people define themselves, derived from the public base classes."""

import json
import pickle
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import FrozenInstanceError, dataclass
from pathlib import Path
from typing import Annotated, Any

import jsonschema
import numpy as np
import pytest
from toolz import pipe

from helpers.pictures import chain
from helpers.records import layer
from kerassurgery_fn import diff, explain, patch, simplify
from kerassurgery_fn.cli.commands import run_file
from kerassurgery_fn.documents.json_schema import PLAN, published, schema
from kerassurgery_fn.documents.plan_files import decode, dumps, encode, load_plan, loads, save_plan
from kerassurgery_fn.edits import (
    ChannelEdit,
    DeleteChannels,
    DeleteLayer,
    Edit,
    GraphEdit,
    InsertLayer,
    KeepChannels,
    RenameLayer,
    edit,
)
from kerassurgery_fn.edits.plan import Plan
from kerassurgery_fn.errors import (
    BadDocument,
    BadValue,
    ChannelOutOfRange,
    NameTaken,
    NotASnapshot,
    NotEncodable,
    PinnedChannels,
    SurgeryError,
    UnknownEdit,
    UnknownLayer,
)
from kerassurgery_fn.values.snapshot import Snapshot


@dataclass(frozen=True)
class Threshold:
    """A value that a field of an edit contains."""

    below: float
    units: tuple[str, ...] = ()


@dataclass(frozen=True)
class DropSmall(ChannelEdit):
    """Deletes the units whose biases are small."""

    layer: str
    threshold: Threshold
    allow_output_change: bool = False

    def channels_to_delete(self, snapshot):
        return {self.layer: snapshot.weights[self.layer][1] < self.threshold.below}


@dataclass(frozen=True)
class DropFirst(ChannelEdit):
    """Deletes the first channel of each layer that fits."""

    pattern: str

    def channels_to_delete(self, snapshot):
        return {self.pattern: [0]}


@dataclass(frozen=True)
class Rectified(GraphEdit):
    """A layer under another name, with a ReLU behind it."""

    layer: str
    name: str

    def redraw(self, draft):
        draft = InsertLayer(Snapshot(layer("ReLU", "new"), {}), after=self.layer).redraw(draft)
        return RenameLayer(self.layer, self.name).redraw(draft)


@dataclass(frozen=True)
class Negated(Edit):
    """The weights of a layer with the other sign."""

    layer: Annotated[str, "the path"]
    once: bool = True
    more: Mapping[str, Any] | None = None

    def __call__(self, snapshot):
        negated = tuple(-array for array in snapshot.weights[self.layer])
        return Snapshot(snapshot.record, {**snapshot.weights, self.layer: negated}, snapshot.training)


@pytest.fixture(autouse=True)
def _registered(registered_edits):
    for cls in (DropSmall, DropFirst, Rectified, Negated):
        edit("mine")(cls)


def small(net=None, count=2):
    """An edit that deletes the `count` units of 'a' with the smallest biases."""
    return DropSmall("a", Threshold(sorted((net or chain()).weights["a"][1])[count]))


OWN = [
    small(),
    DropFirst("[ab]"),
    Rectified("b", "z"),
    Negated("b", more={"x": [1, None]}),
    Plan(small(), Negated("a")),
]
of_each = pytest.mark.parametrize("own", OWN, ids=[type(own).__name__ for own in OWN])


# --- alone and one after the other


def test_an_own_edit_of_channels_deletes_all_that_depends_on_them():
    gone = np.argsort(chain().weights["a"][1])[:2].tolist()
    assert small()(chain()) == DeleteChannels("a", gone)(chain())
    assert DropFirst("[ab]")(chain()) == DeleteChannels(["a", "b"], [0])(chain())


def test_own_edits_compose():
    after = chain(a=[1, 2, 3], b=[1, 2])
    assert pipe(chain(), DropFirst("a"), DropFirst("b")) == Plan(DropFirst("a"), DropFirst("b"))(chain()) == after
    assert pipe(chain(), Negated("a"), DropFirst("a"), Negated("a")) == chain(a=[1, 2, 3])


def test_an_own_edit_of_layers_is_written_as_keras_would():
    inserted = InsertLayer(Snapshot(layer("ReLU", "new"), {}), after="b")(chain())
    assert Rectified("b", "z")(chain()) == RenameLayer("b", "z")(inserted)


def test_own_edits_are_values():
    assert small() == small() != small(count=1)
    assert pickle.loads(pickle.dumps(small())) == small()
    with pytest.raises(FrozenInstanceError):
        DropFirst("a").pattern = "b"


# --- at once


def test_own_and_other_edits_at_once_refer_to_the_first_snapshot():
    at_once = Plan.at_once(DropFirst("a"), DropFirst("a"), DeleteChannels("a", [1]), KeepChannels("b", [0, 2]))
    assert at_once(chain()) == chain(a=[2, 3], b=[0, 2])


def test_own_edits_of_channels_at_once_with_edits_of_layers():
    """The channels are those of the first snapshot, although its layers have other names by the time of the cut."""
    swap = RenameLayer("a", "b"), RenameLayer("b", "a")
    at_once = Plan.at_once(*swap, small(), DropFirst("b"))
    assert at_once(chain()) == Plan.at_once(*swap)(Plan.at_once(small(), DropFirst("b"))(chain()))
    mixed = Plan.at_once(DropFirst("b"), Rectified("b", "z"), DeleteLayer("relu"))
    assert mixed(chain()) == Plan(DropFirst("b"), Rectified("b", "z"), DeleteLayer("relu"))(chain())


def test_an_edit_that_is_neither_of_layers_nor_of_channels_is_done_alone():
    with pytest.raises(SurgeryError, match="only edits of layers and of channels can be done at once"):
        Plan.at_once(Negated("a"), DropFirst("a"))


def test_outputs_change_only_where_the_field_allows_it():
    edits = [DropSmall("c", Threshold(np.max(chain().weights["c"][1])), allow) for allow in (False, True)]
    with pytest.raises(PinnedChannels, match="allow_output_change=True"):
        edits[0](chain())
    assert edits[1](chain()).weights["c"][1].shape == (1,)


# --- documents


@of_each
def test_an_own_edit_is_equal_after_a_round_trip(own, tmp_path):
    data = encode(own)
    assert decode(loads(dumps(data).encode(), "text")) == own
    jsonschema.Draft202012Validator(schema()).validate(data)
    jsonschema.Draft202012Validator(json.loads(PLAN.path.read_text(encoding="utf-8"))).validate(data)
    save_plan(Plan(own, Plan.at_once(DropFirst("a"))), tmp_path / "plan.json")
    assert load_plan(tmp_path / "plan.json") == Plan(own, Plan.at_once(DropFirst("a")))


def test_documents_name_the_package_and_the_class():
    data = encode(small())["plan"]
    assert data["edit"] == "mine>DropSmall"
    assert data["threshold"]["$type"] == f"{__name__}>Threshold"


def test_the_published_schema_does_not_depend_on_registered_edits():
    assert "mine>" not in published()


def test_an_edit_that_is_not_registered_is_named(registered_edits):
    data = encode(Plan(DropFirst("a"), Negated("a")))
    del registered_edits["mine>Negated"]
    with pytest.raises(UnknownEdit, match=r"\.edits\[1\].*'mine>Negated' is not registered: import .*Negated"):
        decode(data)
    with pytest.raises(NotEncodable, match=r"Negated.*@edit"):
        encode(Plan(Negated("a")))
    with pytest.raises(NotEncodable, match=r"not a registered edit.*@edit"):
        encode(Negated("a"))


MODULE = """
from dataclasses import dataclass
from kerassurgery_fn.edits import Edit, edit

print("imported")

@edit
@dataclass(frozen=True)
class Same(Edit):
    def __call__(self, snapshot):
        return snapshot
"""
READING = """
import sys
from kerassurgery_fn import UnknownEdit, load_plan

try:
    load_plan("plan.json")
except UnknownEdit as error:
    print(error)
print("my_edits" in sys.modules)
import my_edits
print(load_plan("plan.json"))
"""


def test_reading_a_plan_imports_nothing(tmp_path):
    """A plan names a module that can be imported, and reading does not; after an import of the module it is read."""
    (tmp_path / "my_edits.py").write_text(MODULE)
    data = {"format": "kerassurgery_fn/plan", "version": 1, "plan": {"edit": "my_edits>Same"}}
    (tmp_path / "plan.json").write_text(json.dumps(data))
    path = f"{Path(__file__).parents[2]}:{tmp_path}"
    command = [sys.executable, "-c", READING]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True, env={"PYTHONPATH": path})
    refused, imported, message, plan = run.stdout.splitlines()
    assert "import the module that defines Same under @edit('my_edits')" in refused
    assert (imported, message, plan) == ("False", "imported", "Same()")


@pytest.mark.parametrize(
    "change, error, words",
    [
        ({"below": 3}, BadDocument, r"\$\.plan"),
        ({"layer": 3}, BadDocument, r"\$\.plan\.layer: 3 is not of type 'string'"),
        ({"threshold": None}, BadDocument, r"\$\.plan\.threshold"),
        ({"threshold": {"$type": "mine>Threshold", "below": 1.0, "units": []}}, BadDocument, "threshold"),
        ({"allow_output_change": 1}, BadDocument, "allow_output_change"),
    ],
)
def test_a_document_with_wrong_fields_is_refused(change, error, words):
    data = loads(dumps(encode(small())).encode(), "text")
    data["plan"] |= change
    with pytest.raises(error, match=words):
        decode(data)


def test_a_missing_field_is_refused():
    data = encode(small())
    del data["plan"]["layer"]
    with pytest.raises(BadDocument, match=r"'layer' is a required property"):
        decode(data)


def test_checks_of_the_class_run_when_a_document_is_read():
    @edit("mine")
    @dataclass(frozen=True)
    class Positive(Edit):
        times: int

        def __post_init__(self):
            if self.times < 1:
                raise BadValue("times must be positive")

        def __call__(self, snapshot):
            return snapshot

    data = encode(Positive(1))
    data["plan"]["times"] = 0
    with pytest.raises(BadDocument, match="invalid values for Positive: times must be positive"):
        decode(data)


def test_hints_that_cannot_be_evaluated_admit_any_value():
    class Hidden:
        pass

    @edit("mine")
    @dataclass(frozen=True)
    class Local(Edit):
        value: "Hidden"

        def __call__(self, snapshot):
            return snapshot

    assert decode(encode(Local((1, "a")))) == Local((1, "a"))
    assert decode(encode(small())) == small()


def test_a_file_of_the_command_line_registers_edits(tmp_path, registered_edits):
    path = tmp_path / "my_edits.py"
    path.write_text(
        "from __future__ import annotations\nfrom dataclasses import dataclass\n"
        "from kerassurgery_fn.edits import ChannelEdit, edit\n"
        '@edit("mine")\n@dataclass(frozen=True)\nclass DropLast(ChannelEdit):\n    layer: str\n'
        "    def channels_to_delete(self, snapshot):\n        return {self.layer: [-1]}\n"
    )
    run_file(path)
    data = {"format": "kerassurgery_fn/plan", "version": 1, "plan": {"edit": "mine>DropLast", "layer": "a"}}
    assert decode(data)(chain()) == chain(a=[0, 1, 2])


# --- reports


def test_an_own_edit_is_explained_like_others():
    own, other = (
        explain(each, chain()) for each in (small(), DeleteChannels("a", small().channels_to_delete(chain())["a"]))
    )
    assert own.losses == other.losses
    assert own.cuts == other.cuts
    assert own.after == other.after
    at_once = Plan.at_once(Rectified("b", "z"), DropFirst("b"))
    assert [(loss.path, loss.channels) for loss in explain(at_once, chain()).losses] == [("z", (0,))]
    assert explain(Negated("a"), chain()).losses == ()


@of_each
def test_own_edits_have_differences_and_shorter_plans(own):
    assert patch(chain(), diff(chain(), own(chain()))) == own(chain())
    assert simplify(Plan(own, DeleteChannels("a", [])), chain())(chain()) == own(chain())


def test_own_deletions_are_merged_with_others():
    plan = simplify(Plan(DropFirst("a"), DropFirst("a"), DeleteChannels("b", [1])), chain())
    assert plan == Plan(DeleteChannels({"a": [0, 1], "b": [1]}))


# --- mistakes


@pytest.mark.parametrize(
    "make, error, words",
    [
        (lambda: Negated("a", once=3), BadValue, "once must be True or False"),
        (lambda: Negated("a", oncee=True), TypeError, "did you mean 'once'"),
        (lambda: Negated("a")({}), NotASnapshot, "expected a Snapshot"),
        (lambda: DropFirst("a")(None), NotASnapshot, "expected a Snapshot"),
        (lambda: DropFirst("nobody")(chain()), UnknownLayer, "nobody"),
    ],
)
def test_arguments_are_checked_as_for_other_edits(make, error, words):
    with pytest.raises(error, match=words):
        make()


@pytest.mark.parametrize(
    "channels, error, words",
    [
        (None, BadValue, r"Wrong\.channels_to_delete must return a mapping .* not None"),
        ([0], BadValue, "must return a mapping"),
        ({"a": "0"}, ChannelOutOfRange, "indices or a boolean mask"),
        ({"a": [9]}, ChannelOutOfRange, "layer 'a' has 4 channels"),
        ({"a": [True]}, ChannelOutOfRange, "the mask is for 1"),
        ({"x": [0]}, UnknownLayer, "'x'"),
    ],
)
def test_channels_of_another_form_are_refused(channels, error, words):
    @dataclass(frozen=True)
    class Wrong(ChannelEdit):
        def channels_to_delete(self, snapshot):
            return channels

    for each in (Wrong(), Plan.at_once(Wrong()), Plan.at_once(Wrong(), RenameLayer("a", "z"))):
        with pytest.raises(error, match=words):
            each(chain())


def test_a_draft_that_is_not_returned_is_named():
    @dataclass(frozen=True)
    class Forgetful(GraphEdit):
        def redraw(self, draft):
            DeleteLayer("relu").redraw(draft)

    for each in (Forgetful(), Plan.at_once(Forgetful(), RenameLayer("a", "z"))):
        with pytest.raises(BadValue, match=r"Forgetful\.redraw must return the draft after the edit, not None"):
            each(chain())


def test_a_result_that_is_no_snapshot_is_named():
    @edit("mine")
    @dataclass(frozen=True)
    class Nothing(Edit):
        def __call__(self, snapshot):
            pass

    with pytest.raises(NotASnapshot, match="the result of Nothing"):
        Nothing()(chain())


def test_a_class_that_is_no_edit_cannot_be_registered():
    class Thawed(Edit):
        def __call__(self, snapshot):
            return snapshot

    @dataclass(frozen=True)
    class Unrelated:
        def __call__(self, snapshot):
            return snapshot

    @dataclass(frozen=True)
    class Unfinished(ChannelEdit):
        layer: str

    @dataclass(frozen=True)
    class Reserved(Negated):
        edit: str = ""

    class Derived(Negated):
        pass

    for cls, words in [
        (Thawed, "Thawed is not a frozen dataclass"),
        (dataclass(Thawed), "is not a frozen dataclass"),
        (Derived, "Derived is not a frozen dataclass"),
        (Unrelated, "Unrelated is not derived from Edit"),
        (Unfinished, "Unfinished does not define channels_to_delete"),
        (Reserved, "Reserved has a field 'edit'"),
        (abs, "is not derived from Edit"),
    ]:
        with pytest.raises(BadValue, match=words):
            edit("mine")(cls)


def test_names_of_edits_are_not_taken_from_one_another(registered_edits):
    @dataclass(frozen=True)
    class DropFirst(GraphEdit):
        def redraw(self, draft):
            return draft

    with pytest.raises(NameTaken, match=r"'mine>DropFirst' is the edit DropFirst of the module"):
        edit("mine")(DropFirst)
    edit("yours")(DropFirst)
    assert registered_edits["yours>DropFirst"] is DropFirst
    for package in ("", "a>b"):
        with pytest.raises(BadValue, match="package"):
            edit(package)
