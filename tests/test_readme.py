"""The README is true: its examples run, its tables are complete, its map is the map of the rooms."""

import re
from pathlib import Path

import pytest

import kerassurgery_fn
from helpers.rooms import map_of_the_rooms
from kerassurgery_fn.edits import EDITS

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def section(title):
    return README.partition(f"## {title}\n")[2].partition("\n## ")[0]


def example(name):
    """The code under a marker `<!-- example: name -->`."""
    return README.partition(f"<!-- example: {name} -->\n```python\n")[2].partition("```")[0]


WISHES = [
    row.strip("| ").split(" | ") for row in section("I want to ...").splitlines() if row.startswith("| ") and "`" in row
]


def test_every_edit_is_in_the_table():
    named = {name for _, code in WISHES for name in re.findall(r"(\w+)\(", code)}
    assert set(EDITS) <= named


def test_the_glossary_has_ten_terms():
    assert len([line for line in section("Ten terms").splitlines() if line.startswith("| **")]) == 10


def test_every_example_is_listed_and_exists():
    listed = re.findall(r"\(examples/(\w+\.py)\)", section("Examples"))
    programs = [
        file.name for file in (ROOT / "examples").glob("*.py") if "typer.run" in file.read_text(encoding="utf-8")
    ]
    assert sorted(listed) == sorted(programs)


IMPORTANCES = (
    "GroupMagnitude", "BNScale", "LAMP", "FPGM", "Random", "GroupTaylor", "OBDC", "GroupHessian", "Activation",
)  # fmt: skip
PRUNER_OPTIONS = (
    "model", "example_inputs", "importance", "global_pruning", "pruning_ratio", "pruning_ratio_dict",
    "max_pruning_ratio", "iterative_steps", "iterative_pruning_ratio_scheduler", "ignored_layers", "round_to",
    "isomorphic", "in_channel_groups", "out_channel_groups", "num_heads", "prune_num_heads", "prune_head_dims",
    "head_pruning_ratio", "head_pruning_ratio_dict", "customized_pruners", "unwrapped_parameters", "root_module_types",
    "forward_fn", "output_transform", "channel_groups", "ch_sparsity", "ch_sparsity_dict",
)  # fmt: skip


def rows_next_to_torch_pruning():
    """The rows of the three tables, headings left out: lists of cells."""
    lines = [line for line in section("Next to Torch-Pruning").splitlines() if line.startswith("| ")]
    return [line.strip("| ").split(" | ") for line in lines if not line.endswith("| test |")]


def test_each_class_and_option_of_torch_pruning_has_a_row():
    named = re.findall(r"`(\w+)", " ".join(row[0] for row in rows_next_to_torch_pruning() if len(row) == 3))
    classes = [f"{name}Importance" for name in IMPORTANCES]
    assert [name for name in (*classes, *PRUNER_OPTIONS) if name not in named] == []


def test_every_row_names_tests_that_exist():
    for row in rows_next_to_torch_pruning():
        tests = re.findall(r"`([\w/]+\.py)::(\w+)`", row[-1])
        assert tests, row
        for file, test in tests:
            assert f"def {test}(" in (ROOT / "tests" / file).read_text(encoding="utf-8"), (file, test)


def test_the_map_of_the_rooms_is_the_one_that_the_architecture_has():
    shown = section("How it is built").partition("```text\n")[2].partition("\n```")[0]
    assert shown.splitlines() == map_of_the_rooms()


def test_every_module_on_the_way_of_an_edit_exists():
    modules = re.findall(r"`(\w+(?:/\w+)*\.py)`", section("How it is built"))
    assert len(modules) > 5
    assert [name for name in modules if not (ROOT / "kerassurgery_fn" / name).exists()] == []


@pytest.fixture(scope="module")
def scope():
    """What the first example of the table defines: `model`, `snapshot`, `images` and the exports of the package."""
    names = {}
    exec(example("model"), names)
    return names


@pytest.mark.keras
@pytest.mark.parametrize("code", [code for _, code in WISHES], ids=[wish for wish, _ in WISHES])
def test_each_row_of_the_table_runs(code, scope, tmp_path, monkeypatch):
    """An edit is also applied, and the result rebuilt."""
    monkeypatch.chdir(tmp_path)
    kerassurgery_fn.save_plan(kerassurgery_fn.DeleteLayer("dropout"), "plan.json")
    kerassurgery_fn.write_model(scope["snapshot"], "model.keras")
    result = eval(code.strip("`"), scope)
    if re.match(r"`(\w+)", code)[1] in {*EDITS, "Plan"}:
        edited = kerassurgery_fn.rebuild(result(scope["snapshot"]))
        assert edited(images_for(edited)) is not None


def images_for(model):
    """Images of the size that a model takes."""
    import numpy as np

    return [np.zeros([n or 16 for n in each.shape], "float32") for each in model.inputs]


@pytest.mark.keras
def test_the_example_of_edits_of_your_own(scope, tmp_path, monkeypatch, registered_edits):
    monkeypatch.chdir(tmp_path)
    exec(example("edit"), scope)
    assert [scope["smaller"].get_layer(name).filters for name in ("conv_1", "conv_2")] == [6, 11]
    assert not scope["smaller"].get_layer("conv_2").trainable
    assert kerassurgery_fn.load_plan("plan.json") == scope["plan"]


@pytest.mark.keras
def test_the_first_example_runs(scope):
    """The pipe on the first screen, on a model that has the layers that it names."""
    import keras

    first = README.partition("```python\n")[2].partition("```")[0]
    layers = keras.layers
    model = keras.Sequential([
        keras.Input((8, 8, 3)), layers.Conv2D(8, 3, name="conv_1"), layers.Dropout(0.5, name="dropout"),
        layers.Flatten(), layers.Dense(4, name="dense_1"), layers.Dense(2, name="dense_2"),
    ])  # fmt: skip
    names = {"model": model}
    exec(first, names)
    assert names["smaller"].get_layer("conv_1").filters == 5


@pytest.mark.keras
def test_the_example_of_a_new_head():
    import keras

    x = keras.Input((8, 8, 3))
    y = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(4, 3, name="conv")(x))
    model = keras.Model(x, keras.layers.Dense(10, activation="softmax", name="predictions")(y))
    names = {"model": model}
    exec(example("head"), names)
    tuned = names["tuned"]
    assert tuned.output_shape == (None, 7)
    assert [weight.path for weight in tuned.trainable_weights] == ["predictions/kernel", "predictions/bias"]
    old, new = (each.get_layer("predictions").kernel.numpy() for each in (model, tuned))
    assert (new[:, :2] == old[:, [3, 5]]).all()


@pytest.mark.keras
def test_the_example_of_other_inputs():
    import keras

    x = keras.Input((8, 8, 3), name="image")
    model = keras.Model(x, keras.layers.GlobalMaxPooling2D()(keras.layers.Conv2D(4, 3, name="conv")(x)))
    names = {"model": model}
    exec(example("inputs"), names)
    assert names["wider"].input_shape == (None, 48, 64, 4)
    kernel = names["wider"].get_layer("conv").kernel.numpy()
    assert abs(kernel[:, :, 3] - kernel[:, :, :3].mean(axis=2)).max() < 1e-6


@pytest.mark.keras
def test_the_example_of_a_detector(scope):
    names = {**scope}
    exec(example("detector"), names)
    assert names["retrained"].output_shape == (None, 6 * (8 * 8 + 4 * 4), 4)
    old, new = (names[model].get_layer("classes_p4").bias.numpy() for model in ("detector", "retrained"))
    assert (new.reshape(6, 4)[:, :2] == old.reshape(6, 21)[:, [0, 15]]).all()


@pytest.mark.keras
def test_the_example_of_pruning_and_fine_tuning(tmp_path, monkeypatch):
    import keras
    import numpy as np

    monkeypatch.chdir(tmp_path)
    layers = keras.layers
    model = keras.Sequential([
        keras.Input((6, 6, 3)), layers.Conv2D(4, 3, name="conv_1"), layers.BatchNormalization(), layers.Flatten(),
        layers.Dense(64, activation="relu"), layers.Dense(10),
    ])  # fmt: skip
    names = {"model": model, "images": np.random.default_rng(0).random((32, 6, 6, 3)), "np": np, "keras": keras}
    exec(example("tune"), names)
    result = names["result"]
    assert result.rounds[-1].cost["macs"] <= 0.5 * result.rounds[0].cost["macs"]
    assert result.model.count_params() == result.rounds[result.kept - 1].cost["parameters"]
    assert (tmp_path / "rounds" / "round_2" / "model.keras").exists()


@pytest.mark.keras
@pytest.mark.filterwarnings("ignore::kerassurgery_fn.errors.ClassNotKept")
def test_the_example_of_a_subclassed_model(scope):
    names = dict(scope)
    exec(example("coded"), names)
    assert names["smaller"].get_layer("hidden").units == 14


@pytest.mark.keras
@pytest.mark.filterwarnings("ignore::kerassurgery_fn.errors.ClassNotKept")
def test_the_example_of_layers_made_of_layers(scope):
    names = dict(scope)
    exec(example("expand"), names)
    attention = names["smaller"].get_layer("block_0").get_layer("attention")
    assert attention.num_heads == 2


@pytest.mark.keras
def test_the_example_of_measured_layers(scope):
    names = {**scope, "kerassurgery_fn": kerassurgery_fn}
    exec(example("rule").partition("@kerassurgery_fn.rule")[0] + example("measure"), names)
    assert names["smaller"].weights["gate"][0].shape == (14,)
