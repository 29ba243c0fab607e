"""Edits as documents and back: equal edits, equal bytes, and a clear error for every invalid document."""

import json
import re
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import jsonschema
import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.records import call, functional, layer, numbers, sequential, snapshot
from kerassurgery_fn.documents.encoding import TAGS, from_data, is_reserved, to_data
from kerassurgery_fn.documents.field_types import edit_classes, field_hints, mentioned, value_classes
from kerassurgery_fn.documents.json_schema import PLAN, published, schema
from kerassurgery_fn.documents.plan_files import SHORT, decode, dumps, encode, load_plan, loads, save_plan
from kerassurgery_fn.documents.preconditions import MadeFor, check, fingerprint, made_for
from kerassurgery_fn.edits import (
    EDITS,
    AddInput,
    ConvertDtype,
    DeepenLayer,
    DeleteBlock,
    DeleteChannels,
    DeleteLayer,
    ExtractModel,
    FlattenModel,
    FoldBatchNorm,
    InsertLayer,
    KeepChannels,
    MixInputs,
    NestLayers,
    RenameLayer,
    RenameModel,
    ReorderChannels,
    ReplaceHead,
    ReplaceLayer,
    SetConfig,
    SetInputShape,
    SetOutputs,
    SetTrainable,
    UnshareLayer,
    WidenChannels,
)
from kerassurgery_fn.edits.base import Edit
from kerassurgery_fn.edits.plan import AtOnce, Plan
from kerassurgery_fn.errors import BadDocument, NotEncodable, OtherModel, UnknownEdit, UnknownVersion
from kerassurgery_fn.values.frozen import freeze
from kerassurgery_fn.values.snapshot import Snapshot, Training

DELETE = DeleteChannels({"conv_1": [0, 4, -1], "attention:num_heads": [1]})


def net(units=4, **config):
    """Two Dense layers with different elements in every weight."""
    record = sequential("net", (None, 3), layer("Dense", "a", units=units, **config), layer("Dense", "b", units=2))
    weights = {"a": (numbers(3, units), numbers(units)), "b": (numbers(units, 2), numbers(2))}
    return snapshot(record, weights)


# An edit of each class; a class without one fails `test_every_edit_class_has_an_example`.
EXAMPLES = {
    "DeleteChannels": DELETE,
    "KeepChannels": KeepChannels("conv_1", [3, 1], allow_output_change=True),
    "ConvertDtype": ConvertDtype("mixed_float16", ("backbone/*", "a")),
    "DeepenLayer": DeepenLayer("a", after="relu", kernel_size=1, name="deep"),
    "ExtractModel": ExtractModel({"a": ["b", "c:1"], "edit": "d*"}, inputs=("x", "y"), name="part"),
    "FlattenModel": FlattenModel("backbone"),
    "NestLayers": NestLayers(("a", "b*"), "stem"),
    "FoldBatchNorm": FoldBatchNorm("block1_*"),
    "DeleteBlock": DeleteBlock("block1_*"),
    "DeleteLayer": DeleteLayer(("*@Dropout", "conv_1"), calls=[0, -1]),
    "AddInput": AddInput("depth", (None, 2), "uint8"),
    "SetOutputs": SetOutputs({"a": ["b", "c:1"]}),
    "InsertLayer": InsertLayer(Snapshot(layer("Dense", "new", units=2), {"": (numbers(3, 2), numbers(2))}), after="a"),
    "RenameLayer": RenameLayer("a", "b"),
    "RenameModel": RenameModel("c"),
    "ReorderChannels": ReorderChannels({"a": [1, 0], "attention:num_heads": [0]}, allow_output_change=True),
    "ReplaceHead": ReplaceHead(7, keep={6: 0, 0: -1}, layer="head/*@Dense", seed=4),
    "WidenChannels": WidenChannels({"a": 7, "*@Conv2D:filters": 9}, noise=0.01, seed=3, fill=[0, 1]),
    "ReplaceLayer": ReplaceLayer("a", net(), calls=1, name="tower"),
    "SetConfig": SetConfig("*@Dropout", rate=0.5, noise_shape=[None, 1], seed=None),
    "MixInputs": MixInputs("b", "a", np.array([[1, 0.1], [0, 1e-30]], "float32")),
    "SetInputShape": SetInputShape("img", (48, None, 3), dtype="uint8", resize="bilinear"),
    "SetTrainable": SetTrainable("backbone/*", False),
    "UnshareLayer": UnshareLayer("a", name="c"),
    "Plan": Plan(DELETE, Plan(KeepChannels("a", [0])), Plan()),
    "AtOnce": AtOnce((DELETE, DELETE)),
    "MadeFor": made_for(DeleteChannels("a", [0]), net(), weights=True),
}


def of_all_classes(test):
    return pytest.mark.parametrize("edit", EXAMPLES.values(), ids=EXAMPLES.keys())(test)


def test_every_edit_class_has_an_example():
    missing = sorted(edit_classes().keys() - EXAMPLES.keys())
    assert not missing, f"add examples of {', '.join(missing)} to EXAMPLES"
    assert {name: type(edit) for name, edit in EXAMPLES.items() if name in EDITS} == EDITS


@of_all_classes
def test_an_edit_is_equal_after_a_round_trip(edit):
    assert decode(loads(dumps(encode(edit)).encode(), "text")) == edit


@of_all_classes
def test_an_edit_gives_the_same_text_after_a_round_trip(edit):
    assert dumps(encode(decode(encode(edit)))) == dumps(encode(edit))


@of_all_classes
def test_a_document_matches_the_published_schema(edit):
    plan_validator().validate(encode(edit))


@cache
def plan_validator():
    return jsonschema.Draft202012Validator(json.loads(PLAN.path.read_text(encoding="utf-8")))


@pytest.mark.parametrize("cls", [*edit_classes().values(), *value_classes().values()], ids=lambda cls: cls.__name__)
def test_no_field_has_a_reserved_name(cls):
    assert not [name for name in field_hints(cls) if is_reserved(name)]


def test_classes_of_documents_have_different_names():
    classes = {*edit_classes().values(), *value_classes().values()}
    classes |= {*mentioned(classes)}
    assert len({cls.__name__ for cls in classes}) == len(classes)


def test_long_lists_are_validated_by_some_of_their_integers():
    """No schema tells a list of so many integers from a longer one."""
    text = PLAN.path.read_text(encoding="utf-8")
    assert all(int(number) < SHORT for number in re.findall(r'"(?:max|min)Items": (\d+)', text))
    assert not re.findall('"uniqueItems|"contains"', text)


def test_the_published_schema_is_up_to_date():
    jsonschema.Draft202012Validator.check_schema(schema())
    assert PLAN.path.read_text(encoding="utf-8") == published(), (
        "run `python -m kerassurgery_fn.differences.publish_schemas`"
    )


# --- random values of the types that fields can have

names = st.sampled_from(["a", "conv_1", "backbone/conv", "x:num_heads", "edit", "$json", "", "ü\n"])
plain = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | names


@st.composite
def arrays(draw):
    dtype = draw(st.sampled_from(["float32", "int64", "bool", "uint8", "float16", "complex64", "bfloat16", "int4"]))
    shape = draw(st.lists(st.integers(0, 3), max_size=3))
    kind = np.dtype(getattr(ml_dtypes, dtype, dtype))
    return np.asarray(draw(st.integers(0, 3)) * np.arange(np.prod(shape, dtype=int)) % 5, kind).reshape(shape)


values = st.recursive(
    plain,
    lambda inner: (
        st.lists(inner, max_size=3).map(tuple)
        | st.lists(inner, max_size=3).map(freeze)
        | st.dictionaries(names, inner, max_size=3).map(freeze)
        | st.dictionaries(st.integers() | st.tuples(names, st.integers()), inner, max_size=2)
        | st.frozensets(plain, max_size=3)
    ),
    max_leaves=8,
)
channels = st.dictionaries(names, st.lists(st.integers(-9, 9), max_size=4))
edits = st.recursive(
    st.builds(DeleteChannels, channels, allow_output_change=st.booleans()) | st.builds(KeepChannels, channels),
    lambda inner: st.lists(inner, max_size=3).map(lambda edits: Plan(*edits)),
    max_leaves=6,
)


@given(edits)
@settings(deadline=None, derandomize=True, max_examples=60)
def test_any_plan_is_equal_after_a_round_trip_and_gives_the_same_bytes(edit):
    text = dumps(encode(edit))
    again = decode(loads(text.encode(), "text"))
    assert again == edit
    assert dumps(encode(again)) == text


@given(values)
@settings(deadline=None, derandomize=True, max_examples=100)
def test_any_value_is_equal_after_a_round_trip(value):
    again = from_data(loads(dumps(to_data(value)).encode(), "text"))
    assert again == value
    assert kinds(again) == kinds(value)
    jsonschema.Draft202012Validator({"$ref": "#/$defs/value", "$defs": schema()["$defs"]}).validate(to_data(value))


def kinds(value):
    """The types inside a value: 1, 1.0 and true differ, and so do lists and tuples."""
    if isinstance(value, dict):
        return "dict", sorted(((repr(key), kinds(item)) for key, item in value.items()), key=repr)
    if isinstance(value, (list, tuple, frozenset)):
        made = [kinds(item) for item in value]
        return next(kind.__name__ for kind in (list, tuple, frozenset) if isinstance(value, kind)), sorted(
            made, key=repr
        )
    return type(value).__name__


@given(arrays())
@settings(deadline=None, derandomize=True, max_examples=100)
def test_any_array_keeps_its_bits(array):
    again = from_data(loads(dumps(to_data(array)).encode(), "text"))
    assert (again.dtype, again.shape, again.tobytes()) == (array.dtype, array.shape, array.tobytes())
    assert not again.flags.writeable


def test_floats_keep_their_bits():
    array = np.array([np.nan, -0.0, np.inf, 1e-45], np.float32)
    assert from_data(to_data(array)).tobytes() == array.tobytes()
    assert str(from_data(to_data((-0.0, 1e300, np.inf)))) == "(-0.0, 1e+300, inf)"


def test_a_snapshot_with_weights_and_optimizer_is_equal_after_a_round_trip():
    training = Training((None, ("a", 0)), (np.array(3), numbers(3, 4)))
    whole = Snapshot(net().record, net().weights, training)
    again = from_data(loads(dumps(to_data(whole)).encode(), "text"))
    assert again == whole
    assert again.record is not whole.record


def test_equal_plans_give_equal_bytes_in_any_order_of_their_layers():
    one, other = DeleteChannels({"a": [1], "b": [2]}), DeleteChannels({"b": [2], "a": [1]})
    assert one == other
    assert dumps(encode(one)) == dumps(encode(other))


def test_the_channels_of_a_layer_are_in_one_line():
    many = DeleteChannels({"a": range(100), "b": range(50)})
    lines = dumps(encode(many)).splitlines()
    assert [line.split(":")[0].strip() for line in lines if "[" in line] == ['"a"', '"b"']


# --- edits with fields of any kind


@dataclass(frozen=True)
class Which:
    """A value in the field of an edit."""

    pattern: str
    but: tuple[str, ...] = ()


@dataclass(frozen=True)
class Everything:
    """An edit with fields of every kind."""

    layer: str | Which
    new: Snapshot
    calls: tuple[int, ...] | None
    fields: Mapping[str, Any]
    arrays: Mapping[str, np.ndarray]
    how: Literal["before", "after"]
    rate: float | None
    inner: tuple[Edit, ...]
    pairs: tuple[tuple[str, int], ...] = ()

    def __call__(self, snapshot):
        return snapshot


EVERYTHING = Everything(
    Which("block*", ("a",)), net(), None, freeze({"edit": [1, {"x": None}], "y": (1, 2)}), {"$a": np.array(2.5)},
    "before", 0.5, (DELETE, Plan(DELETE)), (("a", 1),),
)  # fmt: skip


@pytest.fixture
def everything(monkeypatch):
    monkeypatch.setitem(EDITS, "Everything", Everything)


def test_a_registered_edit_can_be_written_with_fields_of_any_kind(everything):
    data = loads(dumps(encode(Plan(EVERYTHING))).encode(), "text")
    jsonschema.Draft202012Validator(schema()).validate(data)
    (again,) = decode(data).edits
    assert again == EVERYTHING
    assert again.new.weights["a"][0].dtype == np.float32
    assert dumps(encode(again)) == dumps(encode(EVERYTHING))


@pytest.mark.parametrize(
    "field, value, words",
    [
        ("layer", 3, r"\$\.plan\.layer"),
        ("layer", {"$type": "Which", "pattern": 1, "but": []}, r"\$\.plan\.layer"),
        ("new", {"$type": "Which", "pattern": "a", "but": []}, r"\$\.plan\.new"),
        ("calls", [0, "1"], r"\$\.plan\.calls"),
        ("how", "beside", r"\$\.plan\.how: 'beside' is not one of"),
        ("rate", "fast", r"\$\.plan\.rate"),
        ("inner", [{"$type": "Which", "pattern": "a", "but": []}], r"\$\.plan\.inner\[0\]"),
        ("pairs", [["a", 1, 2]], r"\$\.plan\.pairs\[0\]"),
        ("arrays", {"k": [1, 2]}, r"\$\.plan\.arrays"),
        ("fields", {"$type": "Everything"}, r"\$\.plan\.fields"),
    ],
)
def test_a_field_with_a_value_of_another_type_raises(everything, field, value, words):
    data = loads(dumps(encode(EVERYTHING)).encode(), "text")
    data["plan"][field] = value
    with pytest.raises(BadDocument, match=words):
        decode(data)


# --- what cannot be written


class Unlisted:
    """An edit that is not registered."""

    def __call__(self, snapshot):
        return snapshot


@pytest.mark.parametrize(
    "edit, words",
    [
        (Plan(Unlisted()), r"\$\.plan\.edits\[0\]: .*Unlisted"),
        (Unlisted(), "not a registered edit"),
        (Plan(SetConfig("a", rate=float("nan"))), r"\$\.plan\.edits\[0\]\.fields\.rate: NaN"),
        (Plan(lambda snapshot: snapshot), r"edits\[0\]: .*lambda.* cannot be written"),
        (SetConfig("a", seed=np.array(["x"])), r"fields\.seed: an array of dtype <U1"),
        (SetConfig("a", seed=np.array([None])), r"fields\.seed: an array of dtype object"),
        (SetConfig("a", seed=b"bytes"), r"fields\.seed: .*bytes"),
    ],
)
def test_values_that_a_document_cannot_hold_raise(edit, words):
    with pytest.raises(NotEncodable, match=words):
        encode(edit)


@pytest.mark.parametrize("depth", [200, 100_000])
def test_a_plan_that_is_too_deep_to_read_is_not_written(depth):
    plan = Plan()
    for _ in range(depth):
        plan = Plan(plan)
    with pytest.raises(NotEncodable, match="deep"):
        encode(plan)


# --- hostile and broken documents


def document(plan=None, **changes):
    return {"format": "kerassurgery_fn/plan", "version": 1, "plan": plan, **changes}


FLAGS = {"allow_output_change": False, "allow_input_change": False}


def deletion(channels, **changes):
    return document({"edit": "DeleteChannels", "channels": channels, **FLAGS, **changes})


ARRAY = {"dtype": "float32", "shape": [2], "base64": "AAAAAAAAAAA="}
BAD = {
    "a list": ([], r"\$\.format"),
    "another format": (document(format="onnx"), r"\$\.format: .*'onnx'"),
    "no plan": ({"format": "kerassurgery_fn/plan", "version": 1}, "'plan' is a required property"),
    "more than a plan": (deletion({}) | {"run": "rm"}, "'run' was unexpected"),
    "channels that are words": (deletion({"a": ["x"]}), r"\$\.plan\.channels\.a\[0\]: 'x' is not of type 'integer'"),
    "a fraction among many channels": (deletion({"a": [*range(500), 1.0]}), r"\$\.plan\.channels\.a\[500\]"),
    "a truth among many channels": (deletion({"a": [*range(500), True]}), r"\$\.plan\.channels\.a\[500\]"),
    "channels that are fractions": (deletion({"a": [1.0]}), r"\$\.plan\.channels\.a\[0\]"),
    "channels that are truths": (deletion({"a": [True]}), r"\$\.plan\.channels\.a\[0\]"),
    "channels that are a list": (deletion({"$json": {"a": [1]}}), r"\$\.plan\.channels"),
    "a number for a mapping": (deletion(3), r"\$\.plan\.channels: 3 is not of type 'object'"),
    "a field too few": (
        document({"edit": "DeleteChannels", "channels": {}}),
        "'allow_output_change' is a required",
    ),
    "a field too many": (deletion({}, layer="a"), r"\$\.plan: .*'layer' was unexpected"),
    "a number for an edit": (
        document({"edit": "Plan", "edits": [{"edit": "Plan", "edits": [3]}]}),
        r"edits\[0\]\.edits",
    ),
    "a snapshot for an edit": (document({"$type": "Snapshot"}), r"\$\.plan"),
    "channel edits at once only": (
        document({"edit": "AtOnce", "edits": [{"edit": "Plan", "edits": []}]}),
        r"\$\.plan: invalid values for AtOnce: only edits of layers",
    ),
    "a NaN": (deletion({"a": [float("nan")]}), "nan"),
    "a Python object": (deletion({"a": [object()]}), "not a JSON value"),
    "a key that is no string": (deletion({1: [1]}), "keys are strings"),
}


@pytest.mark.parametrize("data, words", BAD.values(), ids=BAD.keys())
def test_a_bad_document_raises_and_the_message_names_the_place(data, words):
    with pytest.raises(BadDocument, match=words):
        decode(data)


@pytest.mark.parametrize("version", [0, 2, "1", None, True, 1.5])
def test_another_version_raises(version):
    with pytest.raises(UnknownVersion, match=r"\$\.version"):
        decode(document(version=version))


@pytest.mark.parametrize("name", ["os.system", "Snapshot", "", "__import__", 3, None, ["Plan"]])
def test_an_unknown_edit_raises_and_the_message_names_its_place(name):
    with pytest.raises(UnknownEdit, match=r"\$\.plan\.edits\[1\]\.edit"):
        decode(document({"edit": "Plan", "edits": [{"edit": "Plan", "edits": []}, {"edit": name}]}))


BAD_VALUES = {
    "an unknown tag": ({"$import": "os"}, "os|import"),
    "two tags": ({"$json": [], "$list": []}, "json"),
    "an unknown class": ({"$type": "os.path"}, "os.path"),
    "a dtype": ({"$array": {**ARRAY, "dtype": "object"}}, "object"),
    "too few bytes": ({"$array": {**ARRAY, "shape": [3]}}, "has 12 bytes, not 8"),
    "too many positions": ({"$array": {**ARRAY, "shape": [2**40] * 8}}, "bytes, not 8"),
    "no positions in many": ({"$array": {"dtype": "int8", "shape": [0, *[2**40] * 8], "base64": ""}}, "shape"),
    "a negative size": ({"$array": {**ARRAY, "shape": [-2, -1]}}, "-2|shape|minimum"),
    "no base64": ({"$array": {**ARRAY, "base64": "A!"}}, "base64"),
    "an array elsewhere": ({"$array": {"dtype": "int8", "shape": [1], "name": "/etc/passwd"}}, "/etc/passwd"),
    "a float by name": ({"$float": "nan"}, "nan"),
    "a map of triples": ({"$map": [[1, 2, 3]]}, "map|long"),
    "a map with an array for a key": ({"$map": [[{"$array": ARRAY}, 2]]}, "map.*hash"),
}


@pytest.mark.parametrize("data, words", BAD_VALUES.values(), ids=BAD_VALUES.keys())
def test_a_bad_value_raises(data, words):
    with pytest.raises(BadDocument, match=words):
        from_data(data)


TEXTS = {
    "no JSON": (b"{", "Expecting property name"),
    "no text": (b"\xff\xfe\x00", "not valid JSON"),
    "nothing": (b"", "Expecting value"),
    "a NaN": (b'{"version": NaN}', "NaN"),
    "an infinity": (b"[-Infinity]", "-Infinity"),
    "a key twice": (b'{"a": 1, "a": 2}', "'a' twice"),
    "deep": (b"[" * 100_000, "deep"),
    "a number of ten thousand digits": (b"1" * 10_000, "not valid JSON"),
}


@pytest.mark.parametrize("text, words", TEXTS.values(), ids=TEXTS.keys())
def test_a_bad_text_raises(tmp_path, text, words):
    (tmp_path / "plan.json").write_bytes(text)
    with pytest.raises(BadDocument, match=words):
        load_plan(tmp_path / "plan.json")


def test_a_document_that_is_nested_too_deeply_raises():
    plan = {"edit": "Plan", "edits": []}
    for _ in range(60):
        plan = {"edit": "Plan", "edits": [plan]}
    with pytest.raises(BadDocument, match="deep"):
        decode(document(plan))


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=3)
    | st.sampled_from([*EXAMPLES, "edit"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from([*TAGS, "edit", "$type", "edits", "channels", "plan", "dtype"]), inner)
    ),
    max_leaves=10,
)


@given(json_values)
@settings(deadline=None, derandomize=True, max_examples=150)
def test_decoding_any_data_gives_an_edit_or_a_clear_error(data):
    for whole in (data, document(data), deletion(data), document({"edit": "Plan", "edits": data})):
        with suppress(BadDocument):
            assert callable(decode(whole))


@given(st.data())
@settings(deadline=None, derandomize=True, max_examples=100)
def test_a_corrupted_document_gives_an_edit_or_a_clear_error(data):
    text = dumps(encode(EXAMPLES[data.draw(st.sampled_from(sorted(EXAMPLES)))])).encode()
    at = data.draw(st.integers(0, len(text) - 1))
    spoilt = text[:at] + data.draw(st.binary(max_size=2)) + text[at + data.draw(st.integers(0, 3)) :]
    with suppress(BadDocument):
        assert callable(decode(loads(spoilt, "text")))


# --- files


@of_all_classes
def test_a_saved_plan_is_equal_after_loading(tmp_path, edit):
    save_plan(edit, tmp_path / "plan.json")
    assert load_plan(tmp_path / "plan.json") == edit
    assert [path.name for path in tmp_path.iterdir()] == ["plan.json"]


def test_a_failed_write_leaves_the_old_file_unchanged(tmp_path, monkeypatch):
    path = tmp_path / "plan.json"
    save_plan(DELETE, path)
    with pytest.raises(NotEncodable):
        save_plan(Plan(Unlisted()), path)
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError("full")))
    with pytest.raises(OSError, match="full"):
        save_plan(Plan(), path)
    assert load_plan(path) == DELETE
    assert [file.name for file in tmp_path.iterdir()] == ["plan.json"]


def test_a_huge_file_is_not_read(tmp_path):
    save_plan(DELETE, tmp_path / "plan.json")
    with pytest.raises(BadDocument, match="raise max_bytes"):
        load_plan(tmp_path / "plan.json", max_bytes=10)


REPLAY = """
import sys
sys.modules["tensorflow"] = sys.modules["keras"] = None  # as if they were not installed
from pathlib import Path
from kerassurgery_fn.documents.plan_files import dumps, load_plan, loads
from kerassurgery_fn.documents.encoding import from_data, to_data
folder = Path(sys.argv[1])
before = from_data(loads((folder / "before.json").read_bytes(), "before"))
after = load_plan(folder / "plan.json")(before)
(folder / "after.json").write_text(dumps(to_data(after)), encoding="utf-8")
"""


def test_a_plan_is_replayed_without_tensorflow_to_equal_bytes(tmp_path):
    before, plan = net(), Plan(DeleteChannels("a", [1]), KeepChannels("a", [0, 2]))
    save_plan(made_for(plan, before, weights=True), tmp_path / "plan.json")
    (tmp_path / "before.json").write_text(dumps(to_data(before)), encoding="utf-8")
    run = subprocess.run([sys.executable, "-c", REPLAY, str(tmp_path)], capture_output=True, text=True, check=False)
    assert (run.returncode, run.stderr) == (0, "")
    assert (tmp_path / "after.json").read_text(encoding="utf-8") == dumps(to_data(plan(before)))


# --- fingerprints


def test_a_plan_for_another_model_raises_and_lists_the_differences():
    plan = made_for(DeleteChannels("a", [0]), net(4))
    with pytest.raises(OtherModel, match="layer 'a' has 6 units instead of 4"):
        plan(net(6))


def test_a_plan_for_another_model_can_be_used_anyway(tmp_path):
    save_plan(made_for(DeleteChannels("a", [0]), net(4)), tmp_path / "plan.json")
    with pytest.raises(OtherModel):
        load_plan(tmp_path / "plan.json")(net(6))
    anyway = load_plan(tmp_path / "plan.json", check=False)
    assert anyway == load_plan(tmp_path / "plan.json").plan == DeleteChannels("a", [0])
    assert anyway(net(6)).weights["a"][1].shape == (5,)


def test_weights_are_compared_on_request():
    other = Snapshot(net().record, {**net().weights, "a": (numbers(3, 4) + 1, numbers(4))})
    check(fingerprint(net()), other)
    with pytest.raises(OtherModel, match="layer 'a' has other weights"):
        check(fingerprint(net(), weights=True), other)


def test_fingerprints_ignore_names_initializers_and_training():
    free = {"kernel_initializer": None, "trainable": False, "kernel_regularizer": "l2"}
    check(fingerprint(net()), net(**free))


def forked(first="a", then="relu", other="Add"):
    return snapshot(
        functional(
            "net",
            {"x": (None, 4)},
            call(layer("Dense", "a", units=4), "x"),
            call(layer("Dense", "b", units=4), "x"),
            call(layer("Activation", "act", activation=then), first),
            call(layer(other, "sum"), ["act", "b"]),
            outputs="sum",
        )
    )


@pytest.mark.parametrize(
    "actual, words",
    [
        (forked(then="tanh"), "layer 'act' .Activation. has another config or other inputs"),
        (forked(first="b"), "layer 'act' .Activation. has another config or other inputs"),
        (forked(other="Multiply"), "layer 'sum' is Multiply instead of Add"),
        (net(), "layer 'x' is missing"),
    ],
)
def test_an_error_lists_the_differences(actual, words):
    with pytest.raises(OtherModel, match=words):
        check(fingerprint(forked()), actual)
    check(fingerprint(forked()), forked())


def test_fields_with_a_similar_name_are_not_ignored():
    """A field is ignored by its whole name: `name` is ignored, `axis_name` is not."""

    def net(**config):
        gate = layer("Gate", "g", module="mine", registered_name="mine>Gate", **config)
        return Snapshot(functional("net", {"x": (None, 3)}, call(gate, "x", out=(None, 3)), outputs="g"), {})

    assert fingerprint(net(axis_name="a")) != fingerprint(net(axis_name="b"))
    assert fingerprint(net(seed=1)) == fingerprint(net(seed=2))


def test_a_fingerprint_is_part_of_the_document():
    plan = EXAMPLES["MadeFor"]
    assert isinstance(plan, MadeFor)
    assert decode(encode(plan)).fingerprint == fingerprint(net(), weights=True)
