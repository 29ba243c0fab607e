"""Random damage to `.keras` files gives a snapshot or a SurgeryError in one line, and leaves no file behind.

`python -m pytest tests/archive/test_mangled_files.py --random-minutes 60` tries as many files as that time allows.
"""

import copy
import io
import json
import os
import time
import zipfile
from itertools import count
from random import Random

import h5py
import numpy as np
import pytest

from helpers.records import call, functional, layer, numbers, sequential, snapshot
from kerassurgery_fn import DeleteChannels, groups
from kerassurgery_fn.archive.archive_members import ASSETS, CONFIG, WEIGHTS
from kerassurgery_fn.archive.file_checks import ERROR, find_problems
from kerassurgery_fn.archive.model_files import read_model, write_model
from kerassurgery_fn.archive.optimizer_variables import variables_of
from kerassurgery_fn.archive.trained_weights import trained_weights
from kerassurgery_fn.errors import SurgeryError
from kerassurgery_fn.report import tables_of
from kerassurgery_fn.rules.strictness import strict_rules
from kerassurgery_fn.values.snapshot import Training

CASES = 80
VALUES = [
    None, True, 0, -1, 10**9, 10**30, 1.5, float("nan"), "", "x", "two\nlines", "a" * 500, [], [[]], [1, 2], {},
    {"class_name": "Dense"}, {"class_name": "Dense", "config": {}}, {"class_name": "__keras_tensor__", "config": {}},
]  # fmt: skip


def plain():
    record = sequential("m", (None, 3), layer("Dense", "a", units=4), layer("Dense", "b", units=2))
    return snapshot(record, {"a": (numbers(3, 4), numbers(4)), "b": (numbers(4, 2), numbers(2))})


def of_layers():
    """Sublayers, a nested model, an optimizer that has made a step."""
    forward, backward = layer("GRU", "g", units=2), layer("GRU", "h", units=2, go_backwards=True)
    both = layer("Bidirectional", "b", layer=forward, backward_layer=backward, merge_mode="concat")
    inner = sequential("inner", (None, 4), layer("Dense", "d", units=4))
    record = functional(
        "f",
        {"x": (None, 5, 3)},
        call(both, "x", out=(None, 4)),
        call(inner, "b", out=(None, 4)),
        call(layer("Dense", "c", units=2, lora_rank=1, lora_alpha=1), "inner"),
        outputs="c",
    )
    optimizer = {"module": "keras.optimizers", "class_name": "Adam", "config": {"learning_rate": 0.1, "name": "adam"}}
    gru = (numbers(3, 6), numbers(2, 6), numbers(2, 6))
    weights = {
        "b": (*gru, *gru),
        "inner/d": (numbers(4, 4), numbers(4)),
        "c": (numbers(4, 2), numbers(2), numbers(4, 1), numbers(1, 2)),
    }
    return snapshot({**record, "compile_config": {"optimizer": optimizer, "loss": "mse"}}, weights)


def with_training():
    """Optimizers for different layers that have made a step, and a vocabulary."""
    options = {"vocabulary": ["one", "two", "three"], "output_mode": "int", "num_oov_indices": 1, "mask_token": None}
    record = functional(
        "t",
        {"x": (None, 5)},
        call(layer("StringLookup", "lookup", **options), "x", out=(None, 5)),
        call(layer("Embedding", "words", input_dim=4, output_dim=6), "lookup"),
        call(layer("Dense", "a", units=6), "words"),
        call(layer("BatchNormalization", "norm"), "a"),
        call(layer("Dense", "b", units=2), "norm"),
        outputs="b",
    )
    muon = {
        "module": "keras.optimizers",
        "class_name": "Muon",
        "config": {"learning_rate": 0.1, "exclude_layers": ["b"]},
    }
    adam = {"module": "keras.optimizers", "class_name": "Adam", "config": {"learning_rate": 0.1, "use_ema": True}}
    chosen = {"class_name": "OptimizerMap", "config": {"default_optimizer": muon, "optimizer_map": {"a/.*": adam}}}
    optimizer = {"module": "keras.optimizers", "class_name": "MultiOptimizer", "config": {"optimizer_map": chosen}}
    model = snapshot(
        {**record, "compile_config": {"optimizer": optimizer, "loss": "mse"}},
        {"words": (numbers(4, 6),), "a": (numbers(6, 6), numbers(6)), "norm": (numbers(6),) * 4,
         "b": (numbers(6, 2), numbers(2))},
    )  # fmt: skip
    slots = [variable.owner for variable in variables_of(optimizer, trained_weights(model))[0].all]
    values = [np.array(3) if owner is None else model.weights[owner[0]][owner[1]] + 1 for owner in slots]
    return type(model)(model.record, model.weights, Training(tuple(slots), tuple(values)))


def of_custom_layers():
    """A custom layer that consists of layers, alone and in a wrapper, with groups for its weights."""
    groups = {"": [0], "steps/dense_1": [3, 4], "first": [1, 2]}
    block = {**layer("Block", "block", module="mine", registered_name="mine>Block"), "weight_groups": groups}
    record = functional(
        "c",
        {"x": (None, 5, 3)},
        call(layer("Dense", "a", units=4), "x"),
        call(block, "a", out=(None, 5, 4)),
        call(layer("TimeDistributed", "each", layer={**block, "build_config": None}), "block", out=(None, 5, 4)),
        call(layer("Dense", "inner/d", units=2), "each"),
        outputs="inner/d",
    )
    own = (numbers(4), numbers(4, 4), numbers(4), numbers(4, 4), numbers(4))
    return snapshot(record, {"a": (numbers(3, 4), numbers(4)), "block": own, "each": own,
                             "inner/d": (numbers(4, 2), numbers(2))})  # fmt: skip


def with_asset(content):
    """The archive with the vocabulary of a lookup layer as an asset, as Keras writes it."""
    members = members_of(content)
    config = json.loads(members[CONFIG])
    lookup = next(layer for layer in config["config"]["layers"] if layer["class_name"] == "StringLookup")
    tokens, lookup["config"]["vocabulary"] = lookup["config"]["vocabulary"], None
    asset = "\n".join(["[UNK]", *tokens])
    return archive_of({**members, CONFIG: json.dumps(config), f"{ASSETS}/layers/string_lookup/vocabulary.txt": asset})


def members_of(content):
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def archive_of(members):
    result = io.BytesIO()
    with zipfile.ZipFile(result, "w") as archive:
        for name, member in members.items():
            archive.writestr(name, member)
    return result.getvalue()


def places(tree, place=()):
    """The places of all values in nested dicts and lists, but that of the whole."""
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, item in items:
        yield (*place, key)
        yield from places(item, (*place, key))


def get(tree, place):
    for key in place:
        tree = tree[key]
    return tree


def mangled_json(text, random):
    """The text with some values removed, replaced, or put in the place of others."""
    tree = json.loads(text)
    for _ in range(random.choice([1, 1, 2, 5])):
        everywhere = list(places(tree))
        place = random.choice(everywhere)
        parent, kind = get(tree, place[:-1]), random.random()
        if kind < 0.3:
            del parent[place[-1]]
        elif kind < 0.4:
            parent[place[-1]] = copy.deepcopy(get(tree, random.choice(everywhere)))
        else:
            parent[place[-1]] = copy.deepcopy(random.choice(VALUES))
    return json.dumps(tree).encode()


def mangled_bytes(content, random):
    """The bytes with some changed, most of them near the beginning, where the structures are; sometimes cut off."""
    content = bytearray(content)
    for _ in range(random.choice([1, 2, 5, 20])):
        content[random.randrange(min(len(content), random.choice([len(content), 3000])))] = random.randrange(256)
    return bytes(content[: random.randrange(len(content))] if random.random() < 0.1 else content)


def mangled_weights(content, random):
    """The weight file with a group or an array removed, moved, or replaced by another array."""
    file = io.BytesIO(content)
    with h5py.File(file, "r+") as weights:
        names = []
        weights.visit(names.append)
        name, other = random.choice(names), random.choice(names)
        match random.randrange(4):
            case 0:
                del weights[name]
            case 1:
                weights.move(name, f"layers/moved_{random.randrange(3)}")
            case 2:
                del weights[name]
                weights[name] = np.zeros(
                    random.choice([(), (3,), (4, 3), (2, 3, 4)]), random.choice(["f4", "i8", "S3"])
                )
            case 3:
                weights[f"{name}_copy" if isinstance(weights[name], h5py.Dataset) else f"{name}/copy"] = weights[other]
    return file.getvalue()


def mangled_archive(content, random):
    members = members_of(content)
    match random.randrange(5):
        case 0:
            members[CONFIG] = mangled_json(members[CONFIG], random)
        case 1:
            members[WEIGHTS] = mangled_bytes(members[WEIGHTS], random)
        case 2:
            members[WEIGHTS] = mangled_weights(members[WEIGHTS], random)
        case 3:
            name = random.choice(list(members))
            members[name] = mangled_bytes(members[name], random)
        case 4:
            return mangled_bytes(content, random)
    return archive_of(members)


@pytest.mark.filterwarnings("ignore:the state of the optimizer")
def test_mangled_files(tmp_path, request):
    contents = []
    for model in (plain(), of_layers(), of_custom_layers(), with_training()):
        write_model(model, tmp_path / "m.keras", overwrite=True)
        found = read_model(tmp_path / "m.keras")
        assert (found.weights.keys(), found.training) == (model.weights.keys(), model.training)
        contents.append((tmp_path / "m.keras").read_bytes())
    contents.append(with_asset(contents[-1]))
    minutes, first = (request.config.getoption(f"--random-{name}") for name in ("minutes", "seed"))
    end, outcomes = time.process_time() + 60 * minutes, {}
    for seed in count(first):
        if time.process_time() > end if minutes else seed >= first + CASES:
            break
        random = Random(seed)
        (tmp_path / "m.keras").write_bytes(mangled_archive(random.choice(contents), random))
        outcome = outcome_of(tmp_path / "m.keras", seed)
        outcomes[outcome] = outcomes.get(outcome, 0) + 1
        assert set(os.listdir(tmp_path)) <= {"m.keras", "again.keras"}, f"files are left behind, seed {seed}"
    print(outcomes)  # noqa: T201 (shown with -s)
    assert outcomes["read"] > 0
    assert outcomes["BadFile"] > 0


def outcome_of(path, seed):
    """The error of reading, writing, describing and cutting a file, or `read`. Odd seeds read lazily."""
    copy = path.with_name("again.keras")
    try:
        with strict_rules(False):
            problems = find_problems(str(path))
            assert not any("\n" in problem.message for problem in problems)
            refusal = error_of(lambda: model_of(path, seed, problems))
            assert "\n" not in str(refusal)
            refusal = refusal or error_of(lambda: write_and_cut(read_model(path, lazy=seed % 2 == 1), copy))
    except Exception as error:
        raise AssertionError(f"seed {seed}: {type(error).__name__}: {error}") from error
    return type(refusal).__name__ if refusal else "read"


def error_of(function):
    """The SurgeryError that a function raises, None if it returns."""
    try:
        function()
    except SurgeryError as error:
        return error
    return None


def write_and_cut(model, copy):
    write_model(model, copy, overwrite=True)
    assert [*map(str, tables_of(model)), str(groups(model))]
    hidden = {name: [0] for name in ("a", "inner/d") if name in model.weights}
    write_model(DeleteChannels(hidden)(model), copy, overwrite=True)


def model_of(path, seed, problems):
    """The model of a file. A file that is refused has an error for the check of files, too."""
    try:
        return read_model(path, lazy=seed % 2 == 1)
    except SurgeryError:
        assert any(problem.severity == ERROR for problem in problems), "the check finds no error"
        raise
