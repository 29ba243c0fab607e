"""Custom layers that consist of layers, in files: they are read and written, and what is around them is cut."""

import json
import zipfile

import h5py
import keras
import numpy as np
import pytest
from keras import layers as L
from typer.testing import CliRunner

from kerassurgery_fn import DeleteChannels, InsertLayer, capture, read_model, rebuild, rule, write_model
from kerassurgery_fn.archive.file_checks import find_problems
from kerassurgery_fn.cli.commands import app
from kerassurgery_fn.errors import BadFile, BrokenSnapshot, PinnedChannels
from kerassurgery_fn.rules import RULES
from kerassurgery_fn.rules.registry import RuleTable

pytestmark = pytest.mark.keras
registered = keras.saving.register_keras_serializable("custom")


@registered
class Two(L.Layer):
    """Its layers are not created in the order of their names."""

    def build(self, shape):
        self.second, self.first = L.Dense(4, activation="tanh"), L.Dense(4)
        for layer in (self.second, self.first):
            layer.build(shape)

    def call(self, x):
        return self.first(self.second(x))

    def compute_output_shape(self, shape):
        return shape


@registered
class Inner(L.Layer):
    """A layer with weights of its own, a list, a dict, and layers without weights."""

    def build(self, shape):
        self.scale = self.add_weight(shape=shape[-1:], initializer="ones", name="scale")
        self.steps = [L.Dense(4), L.Dropout(0.5), L.Dense(4, use_bias=False), L.BatchNormalization()]
        self.by_name = {"z": L.Dense(4), "a": Two(name="pair")}
        for layer in (*self.steps, *self.by_name.values()):
            layer.build(shape)

    def call(self, x):
        for layer in (*self.steps, *self.by_name.values()):
            x = layer(x)
        return x * self.scale


@registered
class Encoder(keras.Model):
    """A model that is code, with layers before and after `layers` in the alphabet, two deep."""

    def __init__(self, **options):
        super().__init__(**options)
        self.within = Inner(name="within")
        self.after, self.before = L.Dense(4), L.Dense(4)

    def build(self, shape):
        for layer in (self.within, self.after, self.before):
            layer.build(shape)

    def call(self, x):
        return self.after(self.within(self.before(x)))


@registered
class OwnSaving(Two):
    def save_own_variables(self, store):
        store["mine"] = np.zeros(3)

    def load_own_variables(self, store):
        pass


LAYERS = {
    "layers": lambda: Two(name="custom"),
    "lists and dicts": lambda: Inner(name="custom"),
    "a model": lambda: Encoder(name="custom"),
    "at every step": lambda: L.TimeDistributed(Two(name="two"), name="custom"),
}


def around(custom):
    """A model with a custom layer between others; the layers in front of it cannot be cut."""
    x = keras.Input((3, 5))
    y = L.Dense(4, name="front")(L.Dense(6, name="wide")(x))
    y = L.Dense(6, name="back")(custom(y))
    model = keras.Model(x, L.Dense(2, name="end")(y))
    rng = np.random.default_rng(0)
    model.set_weights([rng.random(weight.shape) for weight in model.get_weights()])
    return model


X = np.random.default_rng(0).random((2, 3, 5), dtype="float32")


def saved(model, tmp_path):
    model.save(path := tmp_path / "saved.keras")
    return path


def same_outputs(a, b):
    np.testing.assert_array_equal(a(X), b(X))


@pytest.mark.parametrize("name", LAYERS)
def test_a_file_is_read_cut_and_written(name, tmp_path):
    model = around(LAYERS[name]())
    snapshot = read_model(saved(model, tmp_path))
    same_outputs(rebuild(snapshot), model)
    write_model(snapshot, path := tmp_path / "written.keras")
    assert read_model(path) == snapshot
    same_outputs(keras.models.load_model(path), model)
    assert not any(problem.severity == "error" for problem in find_problems(str(path)))
    edit = DeleteChannels({"wide": [0, 3], "back": [1]})
    write_model(edit(snapshot), path, overwrite=True)
    same_outputs(keras.models.load_model(path), rebuild(edit(capture(model))))
    with pytest.raises(PinnedChannels, match="custom"):
        DeleteChannels("front", [0])(snapshot)


@pytest.mark.parametrize("name", LAYERS)
def test_a_captured_model_is_written(name, tmp_path):
    model = around(LAYERS[name]())
    snapshot = capture(model)
    assert capture(rebuild(snapshot)) == snapshot
    write_model(snapshot, path := tmp_path / "written.keras")
    assert read_model(path) == snapshot
    same_outputs(keras.models.load_model(path), model)
    assert groups_in(path) == groups_in(saved(model, tmp_path))


def groups_in(path):
    """The names and shapes of all arrays in a file."""
    found = {}
    with zipfile.ZipFile(path) as archive, archive.open("model.weights.h5") as member, h5py.File(member) as file:
        file.visititems(lambda name, item: found.update({name: item.shape} if isinstance(item, h5py.Dataset) else {}))
    return found


def test_an_inserted_layer_is_written(tmp_path):
    custom = Two(name="new")
    custom.build((None, 3, 4))
    snapshot = InsertLayer(custom, after="custom")(capture(around(LAYERS["layers"]())))
    write_model(snapshot, path := tmp_path / "written.keras")
    same_outputs(keras.models.load_model(path), rebuild(snapshot))


def test_the_record_states_the_groups(tmp_path):
    model = around(LAYERS["layers"]())
    captured = capture(model).config["layers"][3]
    assert captured["weight_groups"] == {"first": [2, 3], "second": [0, 1]}
    assert "weights_by_name" not in captured
    read = read_model(saved(model, tmp_path)).config["layers"][3]
    assert (read["weight_groups"], read["weights_by_name"]) == ({"first": [0, 1], "second": [2, 3]}, True)


def test_a_class_that_saves_its_weights_itself_is_not_written(tmp_path):
    with pytest.raises(BrokenSnapshot, match=r"'custom' \(OwnSaving\) saves its weights by code of its own"):
        write_model(capture(around(OwnSaving(name="custom"))), tmp_path / "written.keras")


def test_the_state_of_the_optimizer_needs_the_order(tmp_path):
    model = around(LAYERS["layers"]())
    model.compile("adam", "mse", run_eagerly=True)
    model.fit(X, np.zeros((2, 3, 2)), verbose=0)
    path = saved(model, tmp_path)
    with pytest.warns(UserWarning, match="does not say the order of the weights of layer 'custom'"):
        assert read_model(path).training is None
    write_model(snapshot := capture(model), written := tmp_path / "written.keras")
    assert read_model(written) == snapshot
    assert read_model(written).training is not None


@pytest.mark.parametrize("groups", [3, [], {"first": 3}, {"first": [0, 2]}, {"first": ["x"]}, {"first": [10**9]}])
def test_groups_that_are_none(groups, tmp_path):
    write_model(capture(around(LAYERS["layers"]())), path := tmp_path / "m.keras")
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(members["config.json"])
    config["config"]["layers"][3]["weight_groups"] = groups
    with zipfile.ZipFile(path, "w") as archive:
        for name, member in {**members, "config.json": json.dumps(config)}.items():
            archive.writestr(name, member)
    with pytest.raises(BadFile, match=r"'custom' \(Two\)"):
        read_model(path)
    assert any(problem.severity == "error" for problem in find_problems(str(path)))


# --- with a rule

RULE = """
from kerassurgery_fn import rule

@rule("custom>Two"{order})
def two(layer, x, **_):
    o = layer.fresh("units") if "units" in layer.config else 4
    middle = 4
    layer.weight("second_kernel", (x[-1], middle))
    layer.weight("second_bias", (middle,))
    layer.weight("first_kernel", (middle, o))
    layer.weight("first_bias", (o,))
    return (*x[:-1], o)
"""


@pytest.fixture
def rules(monkeypatch, tmp_path):
    monkeypatch.setattr("kerassurgery_fn.rules.registry.RULES", RuleTable(RULES))
    (tmp_path / "rules.py").write_text(RULE.format(order=', sublayers=("second", "first")'))
    (tmp_path / "unordered.py").write_text(RULE.format(order=""))
    return tmp_path


def run(*words):
    return CliRunner().invoke(app, [str(word) for word in words])


def test_a_rule_cuts_through_the_layer(rules):
    """The layer reads the channels of `front`: the rows of the kernel of `second` go with them."""
    model = around(LAYERS["layers"]())
    path, out = saved(model, rules), rules / "cut.keras"
    words = ("delete-channels", path, "front=1", "-o", out)
    assert "'custom'" in run(*words).output
    refused = run("--rules", rules / "unordered.py", *words)
    assert "does not say the order of its weights" in refused.output
    assert refused.exit_code == 1
    assert run("--rules", rules / "rules.py", *words).exit_code == 0
    cut = read_model(out)
    assert [array.shape for array in cut.weights["custom"]] == [(3, 4), (4,), (4, 4), (4,)]
    np.testing.assert_array_equal(cut.weights["custom"][0], np.delete(model.get_layer("custom").second.kernel, 1, 0))


def test_a_rule_with_the_order_reads_what_capture_gives(rules):
    model = around(LAYERS["layers"]())
    path = saved(model, rules)
    exec((rules / "rules.py").read_text(), {"rule": rule})
    assert read_model(path) == capture(model)
    model.compile("adam", "mse", run_eagerly=True)
    model.fit(X, np.zeros((2, 3, 2)), verbose=0)
    assert read_model(saved(model, rules)) == capture(model)
