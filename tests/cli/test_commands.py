"""The command line: every command on small files, its exit codes, and that it does without Keras."""

import inspect
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from helpers.pruned_models import filled, latencies, residual
from helpers.records import call, functional, layer, numbers, snapshot
from kerassurgery_fn import (
    DeleteChannels,
    DeleteLayer,
    SetConfig,
    latency,
    load_diff,
    load_latencies,
    load_plan,
    patch,
    prune,
    read_metadata,
    read_model,
    save_latencies,
    write_model,
)
from kerassurgery_fn.cli.commands import app
from kerassurgery_fn.cli.edit_verbs import EXAMPLES, constructed, verb_of
from kerassurgery_fn.edits import EDITS, AddInput, InsertLayer, ReplaceHead, WidenChannels
from kerassurgery_fn.rules import RULES
from kerassurgery_fn.rules.registry import RuleTable

ROOT = Path(__file__).parents[2]
INTERRUPTED = 130  # as shells have it for Ctrl-C
RECORD = functional(
    "m",
    {"x": (None, 8)},
    call(layer("Dense", "a", units=6, activation="relu"), "x"),
    call(layer("Dropout", "drop"), "a"),
    call(layer("Dense", "b", units=4), "drop"),
    call(layer("Dense", "c", units=2), "b"),
    outputs="c",
)
WEIGHTS = {name: (numbers(i, o), numbers(o)) for name, i, o in (("a", 8, 6), ("b", 6, 4), ("c", 4, 2))}
M = snapshot(RECORD, WEIGHTS)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_model(M, "m.keras", metadata={"keras_version": "3.0", "note": 1})
    return tmp_path


def run(*words, code=0, stdin=None):
    result = CliRunner().invoke(app, [str(word) for word in words], input=stdin)
    assert result.exit_code == code, (result.output, result.exception)
    return result.output


# --- look


def test_show(folder):
    output = run("show", "m.keras")
    assert "5 layers, 92 parameters, 80 multiply-accumulates" in output


@pytest.mark.parametrize("command", ["show", "groups", "cost"])
def test_tables_as_json(folder, command):
    (table,) = json.loads(run(command, "m.keras", "--json"))
    assert table.keys() == {"title", "columns", "rows", "notes"}
    assert all(len(row) == len(table["columns"]) for row in table["rows"])


def test_check(folder):
    assert "no problem; <Snapshot of 'm': 3 layers with weights, 92 parameters>" in run("check", "m.keras")
    broken = {**WEIGHTS, "b": (numbers(6, 4) * np.nan, numbers(4))}
    write_model(snapshot(RECORD, broken), "nan.keras")
    assert "weight 0 has elements that are NaN or infinite" in run("check", "nan.keras")
    report = json.loads(run("check", "nan.keras", "--json"))
    assert (report["errors"], report["warnings"], report["problems"][0]["place"]) == (0, 1, "b")
    Path("m.keras").write_bytes(Path("m.keras").read_bytes()[:-30])
    assert "1 error, 0 warnings" in run("check", "m.keras", code=1)
    (problem,) = json.loads(run("check", "m.keras", "--json", code=1))["problems"]
    assert problem["severity"] == "error"
    assert problem["message"].startswith("m.keras is no .keras file")


def test_the_version():
    assert run("--version").strip() == "0.1.0"


# --- change


def edited(*words):
    run(*words, "-o", "out.keras")
    return read_model("out.keras")


CASES = {
    "delete-layer m.keras drop": DeleteLayer("drop"),
    "delete-channels m.keras a=0,2 b=0-1": DeleteChannels({"a": [0, 2], "b": [0, 1]}),
    'delete-channels m.keras {"a":[1]}': DeleteChannels("a", [1]),
    "set-config m.keras a activation=tanh": SetConfig("a", activation="tanh"),
    "set-config m.keras drop rate=0.25 seed=3": SetConfig("drop", rate=0.25, seed=3),
    "widen-channels m.keras a=9 --noise 0.1 --seed 4": WidenChannels("a", 9, noise=0.1, seed=4),
    "replace-head m.keras 3 --keep 0=1": ReplaceHead(3, keep={0: 1}),
}


ASKS_KERAS = "set-config m.keras drop rate=0.25 seed=3"  # whether the layer may have these values


@pytest.mark.parametrize(
    "words", [pytest.param(words, marks=pytest.mark.keras) if words == ASKS_KERAS else words for words in CASES]
)
def test_edits(folder, words):
    assert edited(*words.split()) == CASES[words](M)


def test_a_number_is_a_shape_of_one_axis(folder):
    assert edited("add-input", "m.keras", "extra", "3") == AddInput("extra", (3,))(M)


def test_old_classes_are_listed_in_the_order_of_the_new_ones(folder):
    run("replace-head", "m.keras", "2", "--keep", "1,0", "-o", "listed.keras")
    assert edited("replace-head", "m.keras", "2", "--keep", "0=1", "--keep", "1=0") == read_model("listed.keras")


def test_a_layer_in_a_file(folder):
    record = layer("Dropout", "new", rate=0.3)
    Path("layer.json").write_text(json.dumps(record))
    assert edited("insert-layer", "m.keras", "@layer.json", "--before", "c") == InsertLayer(record, before="c")(M)


def test_every_edit_has_a_verb_with_an_example():
    help_text = CliRunner().invoke(app, ["--help"], env={"COLUMNS": "200"}).output
    assert all(verb_of(name) in help_text for name in EDITS)
    assert EDITS.keys() == {*EXAMPLES, "FoldBatchNorm"}


@pytest.mark.parametrize("name", EDITS)
def test_the_options_of_a_verb_are_the_fields_of_its_edit(name):
    help_text = CliRunner().invoke(app, [verb_of(name), "--help"], env={"COLUMNS": "200"}).output
    optional = [p for p in inspect.signature(EDITS[name]).parameters.values() if p.default is not p.empty]
    known = set(EDITS[name].__dataclass_fields__)
    assert all(f"--{p.name.replace('_', '-')}" in help_text for p in optional if p.name in known - {"channels"})
    assert f"Example: kerassurgery {verb_of(name)} model.keras" in help_text


def test_constructors_get_their_fields():
    assert constructed(SetConfig, {"layer": "a", "fields": {"rate": 0.5}}) == SetConfig("a", rate=0.5)
    assert constructed(DeleteChannels, {"channels": {"a": [1]}}) == DeleteChannels("a", [1])


def test_a_plan_is_explained_and_applied(folder):
    output = run("prune", "m.keras", "--channels", "0.5", "--plan", "plan.json", "-o", "small.keras")
    assert "pruned by magnitude" in output
    assert "3 of 6 units" in run("explain", "plan.json", "m.keras")
    run("apply", "-", "m.keras", "-o", "out.keras", stdin=Path("plan.json").read_text())
    assert read_model("out.keras") == read_model("small.keras") == load_plan("plan.json")(M)


def test_residual_blocks_are_deleted(folder):
    net = filled(residual())
    write_model(net, "net.keras")
    assert "pruned by magnitude" in run("prune", "net.keras", "--macs", "0.8", "--depth", "only", "-o", "1.keras")
    assert read_model("1.keras") == prune(net, macs=0.8, depth="only").model
    assert "from 0 to 1, or 'only'" in run("prune", "net.keras", "--depth", "2", "-o", "2.keras", code=1)


def test_a_model_is_pruned_to_a_latency(folder):
    net = filled(residual())
    write_model(net, "net.keras")
    table = latencies(net)
    save_latencies(table, "latencies.json")
    options = ("--latency", "0.6", "--latency-table", "latencies.json")
    assert "latency in microseconds" in run("prune", "net.keras", *options, "-o", "1.keras")
    assert read_model("1.keras") == prune(net, latency=0.6, latency_table=table).model
    rows = json.loads(run("cost", "net.keras", "--latency-table", "latencies.json", "--json"))[1]["rows"]
    assert rows[-1][2] == latency(net, table).microseconds
    assert "give latency_table=" in run("prune", "net.keras", "--latency", "0.6", "-o", "2.keras", code=1)
    assert "no.json" in run("prune", "net.keras", "--latency-table", "no.json", "-o", "2.keras", code=1)


@pytest.mark.keras
def test_latencies_are_measured(folder):
    assert "Dense" in run("latencies", "m.keras", "--runtime", "keras", "-o", "latencies.json")
    assert latency(M, load_latencies("latencies.json")).nanoseconds >= 0
    assert "exists" in run("latencies", "m.keras", "-o", "latencies.json", code=1)


@pytest.mark.keras
def test_a_model_is_pruned_by_data(folder):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(50, 8)).astype("float32"), rng.normal(size=(50, 2))
    np.savez("all.npz", x=x, y=y)
    Path("parts").mkdir()
    for number, where in enumerate((slice(0, 10), slice(10, 50))):
        np.savez(f"parts/{number}.npz", x=x[where], y=y[where])
    run(
        "prune", "m.keras", "--channels", "0.5", "--by", "taylor", "--data", "all.npz", "--loss", "mse", "-o", "1.keras"
    )
    run("prune", "m.keras", "--channels", "0.5", "--by", "taylor", "--data", "parts", "--loss", "mse", "-o", "2.keras")
    assert (
        read_model("1.keras")
        == read_model("2.keras")
        == prune(M, channels=0.5, by="taylor", data=(x, y), loss="mse").model
    )
    run("prune", "m.keras", "--channels", "0.5", "--by", "variance", "--data", "all.npz", "-o", "3.keras")
    assert read_model("3.keras") == prune(M, channels=0.5, by="variance", data=x).model


def test_differences(folder):
    run("delete-channels", "m.keras", "a=1", "-o", "b.keras")
    assert "6 -> 5" in run("diff", "m.keras", "b.keras", "-o", "d.json", "--html", "page.html")
    assert "<html" in Path("page.html").read_text()
    assert patch(M, load_diff("d.json")) == read_model("b.keras")
    run("patch", "m.keras", "d.json", "-o", "c.keras")
    assert read_model("c.keras") == read_model("b.keras")


def test_a_difference_for_another_model_is_applied_on_request(folder):
    run("set-config", "m.keras", "a", "activation=tanh", "-o", "b.keras")
    run("diff", "m.keras", "b.keras", "-o", "d.json")
    run("rename-model", "m.keras", "other", "-o", "other.keras")
    assert "made for another model" in run("patch", "other.keras", "d.json", "-o", "c.keras", code=1)
    run("patch", "other.keras", "d.json", "-o", "c.keras", "--no-check")
    assert read_model("c.keras") == SetConfig("a", activation="tanh")(read_model("other.keras"))


def test_the_folder_at_hand(folder, monkeypatch):
    with zipfile.ZipFile("m.keras") as archive:
        archive.extractall("unpacked")
    monkeypatch.chdir("unpacked")
    assert "5 layers" in run("show", ".")


def test_names_of_several_lines_are_one_line(folder):
    record = functional("m", {"x": (None, 8)}, call(layer("Dense", "two\nlines", units=6), "x"), outputs="two\nlines")
    write_model(snapshot(record, {"two\nlines": WEIGHTS["a"]}), "lines.keras")
    assert run("delete-channels", "lines.keras", "two*=99", "-o", "b.keras", code=1).count("\n") == 1


def test_weights_are_converted_and_loaded(folder):
    run("convert", "m.keras", "-o", "m.weights.h5")
    other = snapshot(RECORD, {path: tuple(array + 1 for array in arrays) for path, arrays in WEIGHTS.items()})
    write_model(other, "other.keras")
    run("load-weights", "other.keras", "m.weights.h5", "-o", "again.keras")
    assert read_model("again.keras") == M


@pytest.mark.keras
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*tf.lite.Interpreter is deprecated")
@pytest.mark.parametrize("quantize", [None, "float16", "int8"])
def test_a_model_for_tensorflow_lite(folder, quantize):
    import tensorflow as tf

    from kerassurgery_fn import rebuild

    rng = np.random.default_rng(0)
    weights = {
        path: tuple(rng.standard_normal(array.shape).astype("float32") for array in arrays)
        for path, arrays in WEIGHTS.items()
    }
    write_model(model := snapshot(RECORD, weights), "random.keras")
    options = ["--quantize", quantize] if quantize else []
    run("convert", "random.keras", "--tflite", *options, "-o", "m.tflite")
    interpreter = tf.lite.Interpreter("m.tflite")
    x = rng.standard_normal((1, 8)).astype("float32")
    (inputs,), (outputs,) = interpreter.get_input_details(), interpreter.get_output_details()
    interpreter.allocate_tensors()
    interpreter.set_tensor(inputs["index"], x)
    interpreter.invoke()
    wanted = rebuild(model).predict(x, verbose=0)
    tolerance = {None: 1e-5, "float16": 1e-2, "int8": 0.2}[quantize]
    np.testing.assert_allclose(interpreter.get_tensor(outputs["index"]), wanted, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(
    "words, match",
    [
        ("--tflite -o m.bin", "must end in .tflite"),
        ("--quantize int8 -o out.keras", "must end in .tflite"),
        ("--quantize int4 -o m.tflite", "--quantize takes float16 or int8"),
    ],
)
def test_wrong_targets_of_a_conversion(folder, words, match):
    assert match in run("convert", "m.keras", *words.split(), code=1)


def test_tensorflow_lite_needs_tensorflow(folder, monkeypatch):
    for name in ("keras", "tensorflow", "kerassurgery_fn.keras_io.lite_conversion"):
        monkeypatch.setitem(sys.modules, name, None)
    assert "this needs a package that is not installed" in run("convert", "m.keras", "-o", "m.tflite", code=1)
    assert not Path("m.tflite").exists()


@pytest.mark.keras
def test_files_of_keras_2_are_read_by_keras(folder):
    from kerassurgery_fn import capture, rebuild

    rebuild(M).save("m.h5")
    assert "is read by Keras" in run("convert", "m.h5", "-o", "new.keras")
    assert read_model("new.keras").weights.keys() == M.weights.keys()
    assert capture(rebuild(read_model("new.keras"))) == read_model("new.keras")
    Path("broken.h5").write_bytes(b"nonsense")
    assert "error: Keras cannot load broken.h5" in run("show", "broken.h5", code=1)


def test_the_file_notes_what_was_done(folder):
    run("delete-layer", "m.keras", "drop", "-o", "a.keras")
    run("rename-layer", "a.keras", "a", "first", "-o", "b.keras")
    metadata = read_metadata("b.keras")
    assert (metadata["keras_version"], metadata["note"]) == ("3.0", 1)
    assert [edit["edit"] for edit in metadata["kerassurgery_fn"]["edits"]] == ["DeleteLayer", "RenameLayer"]


def test_figures_as_json(folder):
    figures = json.loads(run("delete-channels", "m.keras", "a=1", "-o", "b.keras", "--json"))
    assert figures == {"file": "b.keras", "parameters": [92, 79], "macs": [80, 68]}


def test_a_file_may_be_replaced_by_its_edited_model(folder):
    run("delete-layer", "m.keras", "drop", "-o", "m.keras", "--overwrite")
    assert read_model("m.keras") == DeleteLayer("drop")(M)


# --- rules of one's own

GATE = layer("Gate", "gate", module="mine", registered_name="mine>Gate")
RULES_FILE = """
from kerassurgery_fn import rule

@rule("mine>Gate")
def gate(layer, x, **_):
    layer.weights(scale="i", i=x[-1])
    return x
"""


def test_rules_of_a_file_that_is_named(folder, monkeypatch):
    record = functional(
        "g",
        {"x": (None, 8)},
        call(layer("Dense", "a", units=6), "x"),
        call(GATE, "a", out=(None, 6)),
        call(layer("Dense", "c", units=2), "gate"),
        outputs="c",
    )
    write_model(
        snapshot(record, {"a": WEIGHTS["a"], "gate": (numbers(6),), "c": (numbers(6, 2), numbers(2))}), "g.keras"
    )
    Path("rules.py").write_text(RULES_FILE)
    monkeypatch.setattr("kerassurgery_fn.rules.registry.RULES", RuleTable(RULES))
    assert "has no rule" in run("delete-channels", "g.keras", "a=1", "-o", "b.keras", code=1)
    run("--rules", "rules.py", "delete-channels", "g.keras", "a=1", "-o", "b.keras")
    assert [array.shape for array in read_model("b.keras").weights["gate"]] == [(5,)]


EDITS_FILE = """
from dataclasses import dataclass
from kerassurgery_fn.edits import ChannelEdit, edit

@edit("mine")
@dataclass(frozen=True)
class DropLast(ChannelEdit):
    layer: str

    def channels_to_delete(self, snapshot):
        return {self.layer: [-1]}
"""


def test_edits_of_a_file_that_is_named(folder, registered_edits):
    Path("edits.py").write_text(EDITS_FILE)
    document = {"format": "kerassurgery_fn/plan", "version": 1, "plan": {"edit": "mine>DropLast", "layer": "a"}}
    Path("plan.json").write_text(json.dumps(document))
    refused = run("apply", "plan.json", "m.keras", "-o", "b.keras", code=1)
    assert "'mine>DropLast' is not registered" in refused
    assert "--rules" in refused
    run("--rules", "edits.py", "apply", "plan.json", "m.keras", "-o", "b.keras")
    assert read_model("b.keras") == DeleteChannels("a", [-1])(M)
    assert "1 of 6 units" in run("--rules", "edits.py", "explain", "plan.json", "m.keras")


def test_rules_that_cannot_be_run(folder):
    Path("rules.py").write_text("1 / 0")
    output = run("--rules", "rules.py", "show", "m.keras", code=1)
    assert output == "error: rules.py cannot be run: ZeroDivisionError: division by zero\n"


# --- refusals

REFUSED = {
    "show no.keras": "error: no.keras cannot be read: No such file or directory",
    "delete-channels m.keras a=99 -o b.keras": "error: layer 'a' has 6 channels",
    "delete-channels m.keras a -o b.keras": "error: 'a' is not of the form NAME=VALUE",
    "delete-channels m.keras a=0 a=1 -o b.keras": "error: 'a' is given twice",
    "delete-channels m.keras a=3-1 -o b.keras": "error: 3-1 is no range",
    'delete-channels m.keras {"a":[0] -o b.keras': "error: the argument is not valid JSON",
    "delete-channels m.keras @/dev/zero -o b.keras": "error: /dev/zero has more bytes than the limit",
    "widen-channels m.keras a=99999999999999 -o b.keras": "error: the memory does not suffice",
    "prune m.keras --macs inf -o b.keras": "error: macs: a budget is",
    "prune m.keras --macs 0.5 -o no/b.keras": "error: no/b.keras cannot be written: there is no folder no",
    "prune m.keras --macs 0.5 -o b.h5": "error: b.h5 must end in .keras",
    "prune m.keras --macs 0.5 -o b.keras --plan m.keras": "error: m.keras exists; pass --overwrite to replace it",
    "prune m.keras --macs 0.5 -o b.keras --report .": "error: . is a folder, and cannot be written",
    "diff m.keras m.keras -o m.keras": "error: m.keras exists; pass --overwrite to replace it",
    "diff m.keras m.keras --html m.keras": "error: m.keras exists; pass --overwrite to replace it",
    "show m.weights.h5": "error: m.weights.h5 has weights only; load them into a model: load-weights",
    "--rules no.py show m.keras": "error: no.py is no file",
    "delete-layer m.keras dorp -o b.keras": "did you mean 'drop'?",
    "delete-layer m.keras drop -o m.keras": "error: m.keras exists; pass --overwrite to replace it",
    "delete-layer m.keras drop -o b.txt": "error: b.txt must end in .keras",
    "apply no.json m.keras -o b.keras": "error: no.json cannot be read",
    "insert-layer m.keras @no.json -o b.keras": "error: no.json cannot be read",
    "prune m.keras --macs 0.5 --by nothing -o b.keras": "no criterion 'nothing'",
    "prune m.keras --macs 0.5 --by taylor -o b.keras": "'taylor' needs gradients of gates measured on data",
    "prune m.keras --macs 0.5 --by taylor --data no.npz -o b.keras": "error: no.npz is no .npz file of arrays",
    "prune m.keras --macs 0.5 --by taylor --data . -o b.keras": "error: . has no .npz file; np.savez",
}


@pytest.mark.parametrize("words", REFUSED)
def test_refusals_are_one_line(folder, words):
    output = run(*words.split(), code=1)
    assert REFUSED[words] in output
    assert output.count("\n") == 1
    assert [path.name for path in folder.iterdir()] == ["m.keras"]


@pytest.mark.parametrize("words", ["show", "nonsense", "delete-layer m.keras drop", "show m.keras --nonsense"])
def test_wrong_usage(folder, words):
    run(*words.split(), code=2)


def test_an_interruption_leaves_no_file(folder, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("kerassurgery_fn.archive.model_files.write_training", interrupt)
    assert run("delete-layer", "m.keras", "drop", "-o", "out.keras", code=INTERRUPTED).strip() in ("", "Aborted.")
    assert [each.name for each in folder.iterdir()] == ["m.keras"]


def test_the_traceback_is_shown_on_request(folder):
    result = CliRunner().invoke(app, ["--debug", "show", "no.keras"])
    assert result.exit_code == 1
    assert type(result.exception).__name__ == "BadFile"


WITHOUT_KERAS = """
import sys
sys.argv = ["kerassurgery", *sys.argv[1:]]
from kerassurgery_fn.cli.commands import app
try:
    app()
finally:
    loaded = {"keras", "tensorflow"} & set(sys.modules)
    if loaded:
        sys.exit(f"loaded {loaded}")
"""


@pytest.mark.parametrize("words", ["show m.keras", "prune m.keras --channels 0.5 -o b.keras"])
def test_keras_is_not_loaded(folder, words):
    command = [sys.executable, "-c", WITHOUT_KERAS, *words.split()]
    run = subprocess.run(command, capture_output=True, text=True, check=False, env={"PYTHONPATH": str(ROOT)})
    assert run.returncode == 0, run.stderr


def test_the_package_is_a_program(folder):
    command = [sys.executable, "-m", "kerassurgery_fn", "cost", "m.keras"]
    run = subprocess.run(command, capture_output=True, text=True, check=True, env={"PYTHONPATH": str(ROOT)})
    assert "80" in run.stdout


def test_archives_are_as_keras_writes_them(folder):
    with zipfile.ZipFile("m.keras") as archive:
        assert archive.namelist() == ["metadata.json", "config.json", "model.weights.h5"]
