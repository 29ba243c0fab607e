"""Every public function and edit refuses what it cannot take by a SurgeryError, a wrong signature by a TypeError.

What is tested is found by itself: all of `kerassurgery_fn.__all__`. A new function whose parameters have names that
`GOOD` does not know fails `test_every_parameter_has_a_good_value`.
"""

import inspect
import warnings
from pathlib import Path

import keras
import matplotlib as mpl
import numpy as np
import pytest
import tensorflow as tf

import kerassurgery_fn as package
from helpers.pruned_models import latencies
from kerassurgery_fn import DeleteChannels, Plan, Snapshot, SurgeryError, capture, diff, errors, identify, operations
from kerassurgery_fn.arguments import nearest
from kerassurgery_fn.differences import encode_diff
from kerassurgery_fn.edits import EDITS, InsertLayer, RenameLayer, ReorderChannels, SetConfig, WidenChannels

mpl.use("Agg")
pytestmark = pytest.mark.keras

INPUT = keras.Input((4,), name="x")
HIDDEN = keras.layers.Dense(3, activation="relu", name="h")
MODEL = keras.Model(INPUT, keras.layers.Dense(2, name="y")(keras.layers.ReLU(name="r")(HIDDEN(INPUT))))
SNAPSHOT = capture(MODEL)
EDIT = DeleteChannels("h", [0])

# What the parameter of a public function takes, by its name; a new name is given its value here.
GOOD = {
    **dict.fromkeys(("snapshot", "a", "b", "before", "after"), SNAPSHOT),
    **dict.fromkeys(("edit", "plan", "old", "new", "plans", "edits"), EDIT),
    "model": MODEL,
    "data": np.ones((2, 4), "float32"),
    "x_val": np.ones((2, 4), "float32"),
    "difference": diff(SNAPSHOT, EDIT(SNAPSHOT)),
    "thing": SNAPSHOT,
    "layer": keras.layers.ReLU(),
    "new_layer": keras.layers.ReLU(),
    "channels": [0],
    "classes": "mine>Class",
    "record": SNAPSHOT.record,
    "weights": SNAPSHOT.weights,
    "apoz": np.array([0.1, 0.2]),
    "scores": package.importance(SNAPSHOT),
    "statistics": package.measure_statistics(MODEL, np.ones((2, 4), "float32")),
    "name": "mine",
    "criterion": "magnitude",
    "baseline": 0.9,
    "metrics": {"h": {0.5: 0.8}},
    "sensitivity": package.Sensitivity("magnitude", 0.9, {"h": {0.5: 0.8}}),
    "latency_table": latencies(SNAPSHOT),
    "points": {"Dense": [(1, 2.0)]},
    "evaluate": lambda model: 1.0,
    "fine_tune": lambda model: model,
}
OWN = {"progress", "evaluate", "fine_tune"}  # functions of the caller's, which raise what they like
BUDGET = {  # what these functions need besides, or what makes them fast
    "plan_pruning": {"channels": 2}, "prune": {"channels": 2},
    "measure_latencies": {"fractions": 1, "runtime": "keras", "repeats": 1},
}  # fmt: skip
DOCUMENTS = {"decode": package.encode(EDIT), "decode_diff": encode_diff(GOOD["difference"])}
EDITS_THAT_WORK = {
    "RenameModel": {"name": "z"}, "DeleteBlock": {"layer": ()}, "FlattenModel": {"layer": ()},
    "NestLayers": {"layers": ["h", "r"], "name": "z"},
    "AddInput": {"name": "z", "shape": (2,)}, "SetOutputs": {"outputs": ["y", "h"]},
    "ConvertDtype": {"dtype": "float16"}, "DeepenLayer": {"layer": "h"},
    "DeleteChannels": {"layer": "h", "channels": [0]},
    "DeleteLayer": {"layer": "r"}, "ExtractModel": {"outputs": "h"}, "FoldBatchNorm": {},
    "InsertLayer": {"layer": keras.layers.ReLU(), "after": "h"}, "KeepChannels": {"layer": "h", "channels": [0]},
    "MixInputs": {"layer": "y", "channels": "h", "matrix": np.eye(3) / 2},
    "RenameLayer": {"layer": "h", "name": "z"}, "ReorderChannels": {"layer": "h", "order": [2, 0, 1]},
    "ReplaceHead": {"units": 3}, "ReplaceLayer": {"layer": "r", "new": keras.layers.ReLU()},
    "SetConfig": {"layer": "h", "activation": "gelu"}, "SetInputShape": {"layer": "x", "dtype": "float16"},
    "SetTrainable": {"layer": "h", "trainable": False},
    "UnshareLayer": {"layer": "h"}, "WidenChannels": {"layer": "h", "to": 4},
}  # fmt: skip

WRONG = {
    "nothing": None, "a number": 3, "a float": 0.5, "a bool": True, "a string": "no such thing", "an empty string": "",
    "an empty list": [], "a list of lists": [[1], [2, 3]], "an empty dict": {},
    "a dict": {"no": 1}, "an object": object(),
    "NaN": float("nan"), "an empty array": np.zeros((0, 4)), "an array of NaN": np.full((2, 4), np.nan),
    "a sample": np.zeros(4), "a scalar": np.array(3.0), "a tensor": tf.ones((2, 4)),
    "a model": MODEL, "a layer": HIDDEN, "a symbol": INPUT, "a path": Path("no/such/folder/model.keras"), "bytes": b"x",
    "a class": dict, "a snapshot of nothing": Snapshot({}, {}), "a snapshot": SNAPSHOT, "an edit": EDIT,
}  # fmt: skip


def public_functions():
    """Name -> public function, the functions of the Keras-surgeon interface included."""
    exported = {name: getattr(package, name) for name in package.__all__}
    functions = {name: value for name, value in exported.items() if name not in EDITS and not _is_error(value)}
    functions |= {name: getattr(operations, name) for name in operations.__all__}
    return functions | {name: getattr(identify, name) for name in identify.__all__} | {"at_once": Plan.at_once}


def _is_error(value):
    return isinstance(value, type) and issubclass(value, Exception)


FUNCTIONS = public_functions()


def parameters(function):
    return dict(inspect.signature(function).parameters)


def good_arguments(name, function, tmp_path):
    """A valid value for each required parameter, by name."""
    arguments = {}
    for parameter, spec in parameters(function).items():
        if parameter == "path":
            arguments[parameter] = tmp_path / "file"
        elif name in DOCUMENTS and parameter == "data":
            arguments[parameter] = DOCUMENTS[name]
        elif (spec.kind is not spec.VAR_KEYWORD and spec.default is spec.empty) or spec.kind is spec.VAR_POSITIONAL:
            arguments[parameter] = GOOD[parameter]
    arguments |= BUDGET.get(name, {})
    if name in ("delete_layer", "insert_layer", "replace_layer", "delete_channels", "get_apoz"):
        arguments["layer"] = "h"
    return arguments


def called(function, arguments):
    """Calls a function with arguments by the names of their parameters."""
    kinds = {name: spec.kind for name, spec in parameters(function).items()}
    rest = [value for name, value in arguments.items() if kinds[name] is inspect.Parameter.VAR_POSITIONAL]
    first = [arguments[name] for name in arguments if kinds[name].name == "POSITIONAL_OR_KEYWORD"] if rest else []
    named = {name: value for name, value in arguments.items() if not rest or kinds[name].name == "KEYWORD_ONLY"}
    return function(*first, *rest, **named)


def crash(call):
    """An error that a call raises and that is not a SurgeryError, with the line that raised it; empty otherwise."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            call()
    except SurgeryError as error:
        return "" if str(error) else "an error without words"
    except Exception as error:
        last = error.__traceback__
        while last.tb_next is not None:
            last = last.tb_next
        return f"{type(error).__name__}: {str(error)[:80]} ({last.tb_frame.f_code.co_filename}:{last.tb_lineno})"
    return ""


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_parameter_has_a_valid_value(name, tmp_path):
    arguments = good_arguments(name, FUNCTIONS[name], tmp_path)
    assert crash(lambda: called(FUNCTIONS[name], arguments)) == ""


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_public_function_raises_on_invalid_arguments(name, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)  # a string may be taken as the name of a file
    function = FUNCTIONS[name]
    good = good_arguments(name, function, tmp_path)
    crashes = {
        (parameter, what): words
        for parameter in parameters(function).keys() - OWN
        for what, wrong in WRONG.items()
        if (words := crash(lambda arguments={**good, parameter: wrong}: called(function, arguments)))
    }
    assert crashes == {}
    assert [*tmp_path.glob("**/.*")] == []  # no temporary files are left


@pytest.mark.parametrize("name", EDITS_THAT_WORK)
def test_an_edit_raises_on_invalid_arguments(name):
    cls, good = EDITS[name], EDITS_THAT_WORK[name]
    assert isinstance(cls(**good)(SNAPSHOT), Snapshot)
    fields = [name for name in parameters(cls) if name not in ("kinds", "fields")]
    crashes = {
        (field, what): words
        for field in fields
        for what, wrong in WRONG.items()
        if (words := crash(lambda arguments={**good, field: wrong}: cls(**arguments)(SNAPSHOT)))
    }
    crashes |= {
        ("call", what): words for what, wrong in WRONG.items() if (words := crash(lambda it=wrong: cls(**good)(it)))
    }
    assert crashes == {}


def test_every_edit_is_tested():
    assert {*EDITS_THAT_WORK} == {name for name, cls in EDITS.items() if cls.__module__.startswith("kerassurgery_fn")}


# --- what the errors say

SAID = {
    "a model for a snapshot": (lambda: package.cost(MODEL), errors.NotASnapshot, r"call capture\(model\) first"),
    "a model for an edit's": (lambda: EDIT(MODEL), errors.NotASnapshot, r"call capture\(model\) first"),
    "a model for a plan's": (lambda: Plan()(MODEL), errors.NotASnapshot, r"call capture\(model\) first"),
    "a model to show": (lambda: package.show(MODEL), errors.NotASnapshot, r"call capture\(model\) first"),
    "a path for a snapshot": (lambda: package.groups("m.keras"), errors.NotASnapshot, r"keras\.models\.load_model"),
    "a path for a model": (lambda: capture("m.keras"), errors.NotAGraph, r"keras\.models\.load_model"),
    "a path for Keras-surgeon's": (lambda: package.Surgeon(Path("m.h5")), errors.NotAGraph, "load_model"),
    "a snapshot for a model": (lambda: capture(SNAPSHOT), errors.NotAGraph, r"rebuild\(snapshot\)"),
    "arguments exchanged": (lambda: package.explain(SNAPSHOT, EDIT), SurgeryError, "edit: .* is not an edit"),
    "a model for an edit": (lambda: Plan(MODEL), SurgeryError, "is not an edit"),
    "a function that is not an edit": (lambda: Plan(lambda s: 3)(SNAPSHOT), errors.NotASnapshot, "result of"),
    "a name in capitals": (lambda: DeleteChannels("H", [0])(SNAPSHOT), errors.UnknownLayer, r"did you mean 'h'\?"),
    "a field in capitals": (lambda: SetConfig("h", Units=3)(SNAPSHOT), errors.UnknownField, r"did you mean 'units'\?"),
    "a kind in capitals": (lambda: DeleteChannels("h", Units=[0])(SNAPSHOT), errors.NoChannels, "did you mean 'units'"),
    "no field": (lambda: SetConfig("h"), errors.BadValue, "sets no field"),
    "channels misspelt": (lambda: DeleteChannels("h", chanels=[0]), errors.BadValue, "did you mean channels="),
    "a flag misspelt": (
        lambda: DeleteChannels("h", [0], allow_output_changes=True), errors.BadValue, "mean allow_output_change=",
    ),
    "an order misspelt": (lambda: ReorderChannels("h", ordr=[0, 1]), errors.BadValue, "did you mean order="),
    "noise misspelt": (lambda: WidenChannels("h", 9, nois=0.1), errors.BadValue, "did you mean noise="),
    "a keyword misspelt": (lambda: RenameLayer("h", nmae="z"), TypeError, r"RenameLayer\(\).*did you mean 'name'"),
    "a function's misspelt": (lambda: package.cost(SNAPSHOT, shape=(4,)), TypeError, "did you mean 'shapes'"),
    "a flag that is none": (lambda: DeleteChannels("h", [0], allow_output_change="no"), errors.BadValue, "not .no"),
    "an edit in capitals": (
        lambda: package.decode({**package.encode(EDIT), "plan": {"edit": "deletechannels"}}), errors.UnknownEdit,
        r"did you mean 'DeleteChannels'\?",
    ),
}  # fmt: skip


@pytest.mark.parametrize("call, error, words", SAID.values(), ids=SAID)
def test_an_error_names_the_way_out(call, error, words):
    with pytest.raises(error, match=words):
        call()


def test_all_errors_are_at_the_top_level():
    defined = {name for name, value in vars(errors).items() if _is_error(value)}
    assert defined <= {*package.__all__}
    assert all(getattr(package, name) is getattr(errors, name) for name in defined)


def test_nearest_ignores_case():
    assert nearest("CONV_1", ["conv_1", "conv_2"]) == "conv_1"
    assert nearest("conv_1", ["Conv_1"]) == "Conv_1"


def test_a_kind_of_channels_with_the_name_of_an_argument_can_be_addressed():
    assert DeleteChannels({"h:channel": [0]}).channels == {"h:channel": (0,)}


def test_several_classes_can_be_passed_as_a_list():
    assert package.of_class(["Dense", keras.layers.ReLU]) == "*@Dense,ReLU"


# --- files

WRITERS = {
    "save_plan": lambda path: package.save_plan(EDIT, path),
    "save_diff": lambda path: package.save_diff(GOOD["difference"], path),
    "report_html": lambda path: package.report_html(SNAPSHOT, SNAPSHOT, path),
    "save_scores": lambda path: package.save_scores(GOOD["scores"], path),
}
READERS = {"load_plan": package.load_plan, "load_diff": package.load_diff, "load_scores": package.load_scores}


@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
def test_an_error_names_the_file_that_cannot_be_written(write, tmp_path, monkeypatch):
    with pytest.raises(errors.BadFile, match=r"no.file\.json cannot be written: No such file or directory"):
        write(tmp_path / "no" / "file.json")
    (tmp_path / "folder").mkdir()
    with pytest.raises(errors.BadFile, match="folder cannot be written: Is a directory"):
        write(tmp_path / "folder")
    with pytest.raises(errors.BadFile, match="must be the path of a file, not 3"):
        write(3)
    monkeypatch.setattr("tempfile.mkdtemp", refuse)  # as in a folder that may not be written to
    with pytest.raises(OSError, match=r"file\.json cannot be written: Permission denied"):
        write(tmp_path / "file.json")
    assert [file.name for file in tmp_path.iterdir()] == ["folder"]


def refuse(*_, **__):
    raise PermissionError(13, "Permission denied")


@pytest.mark.parametrize("read", READERS.values(), ids=READERS)
def test_an_error_names_the_file_that_cannot_be_read(read, tmp_path):
    with pytest.raises(errors.BadFile, match=r"plan\.json cannot be read: No such file or directory"):
        read(tmp_path / "plan.json")
    with pytest.raises(errors.BadFile, match="cannot be read: Is a directory"):
        read(tmp_path)


# --- records of layers


def test_the_record_of_a_snapshot_is_checked_against_its_schema():
    record = {"module": "keras.layers", "class_name": "ReLU", "registered_name": None}
    with pytest.raises(errors.BrokenSnapshot, match=r"the record of the layer\.config\.dtype: 5 is not of type"):
        InsertLayer({**record, "config": {"name": "n", "dtype": 5}}, after="h")
    with pytest.raises(errors.BrokenSnapshot, match=r"\.config\.name: 3 is not of type 'string'"):
        InsertLayer(Snapshot({**record, "config": {"name": 3}}, {}), after="h")


@pytest.mark.parametrize("parts", [(3, {}), ({}, 3), ({}, {"a": 3}), ({}, {"a": [3]}), ({}, {1: ()}), ({}, {}, 3)])
def test_a_snapshot_with_parts_of_wrong_types_raises(parts):
    with pytest.raises(errors.BrokenSnapshot, match="a snapshot's"):
        Snapshot(*parts)
