"""The check of files finds every problem, and none in a file that is fine."""

import io
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest

from helpers.records import layer, numbers, sequential, snapshot
from kerassurgery_fn.archive.archive_members import CONFIG, METADATA, WEIGHTS
from kerassurgery_fn.archive.file_checks import ERROR, WARNING, find_problems
from kerassurgery_fn.archive.model_files import write_model
from kerassurgery_fn.rules.strictness import strict_rules

ROOT = Path(__file__).parents[2]
RECORD = sequential("m", (None, 3), *(layer("Dense", name, units=4) for name in "abcdef"))
KERNELS = {name: (numbers(4, 4), numbers(4)) for name in "bcdef"} | {"a": (numbers(3, 4), numbers(4))}


@pytest.fixture
def path(tmp_path):
    write_model(snapshot(RECORD, KERNELS), tmp_path / "m.keras")
    return tmp_path / "m.keras"


def changed(path, change):
    """Changes the members of an archive: name -> content. The weights are an open HDF5 file."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    content = io.BytesIO(members[WEIGHTS])
    with h5py.File(content, "r+") as file:
        change(members, file)
    members[WEIGHTS] = content.getvalue()
    with zipfile.ZipFile(path, "w") as archive:
        for name, member in members.items():
            if member is not None:
                archive.writestr(name, member)


def replace(file, name, array):
    del file[name]
    file[name] = array


def test_a_file_that_is_fine(path):
    assert find_problems(str(path)) == []


def test_every_problem_is_listed(path):
    def change(members, file):
        del file["layers/dense/vars/1"]  # a
        replace(file, "layers/dense_1/vars/0", np.zeros((4, 5), "f4"))  # b
        replace(file, "layers/dense_2/vars/0", np.zeros((4, 4), "f8"))  # c
        replace(file, "layers/dense_3/vars/0", np.zeros((4, 4), "i4"))  # d
        replace(file, "layers/dense_4/vars/1", np.array([1, np.nan, 2, np.inf], "f4"))  # e
        file["layers/dense_5/vars/2"] = np.zeros(3, "f4")  # f
        file["layers/dense_6/vars/0"] = np.zeros(3, "f4")
        members[METADATA] = None

    changed(path, change)
    assert {problem[:2]: problem.message for problem in find_problems(str(path))} == {
        (ERROR, METADATA): f"{path} has no member {METADATA}, which every .keras file has",
        (ERROR, "layers/dense_6"): "the file has weights here, and the config has no layer for them",
        (ERROR, "a"): "weight 1 (bias) is missing; by the config its shape is (4,)",
        (ERROR, "b"): "weight 0 (kernel) has the shape (4, 5), and by the config it is (4, 4)",
        (WARNING, "c"): "weight 0 (kernel) is float64, and by the config it is float32; Keras converts it",
        (ERROR, "d"): "weight 0 (kernel) is int32, and by the config it is float32",
        (WARNING, "e"): "weight 1 has elements that are NaN or infinite",
        (ERROR, "f"): "weight 2 of shape (3,) is superfluous: the config has none for it",
    }


def test_layers_that_cannot_be_read_do_not_hide_others(path):
    def change(members, file):
        replace(file, "layers/dense/vars/0", np.array([b"abc"]))
        file["layers/dense_1/x/vars/0"] = np.zeros(3)
        del file["layers/dense_2"]

    changed(path, change)
    assert [problem.place for problem in find_problems(str(path))] == ["a", "b", "c", "c"]


def test_damage_does_not_hide_what_can_be_read(path):
    content = bytearray(path.read_bytes())
    content[content.index(numbers(3, 4).tobytes()) + 2] ^= 1
    path.write_bytes(content)
    (problem,) = find_problems(str(path))
    assert problem[:2] == (ERROR, WEIGHTS)
    assert "Bad CRC-32" in problem.message


def test_a_config_that_is_no_model(path):
    changed(path, lambda members, file: members.update({CONFIG: b"[]"}))
    assert [problem[:2] for problem in find_problems(str(path))] == [(ERROR, CONFIG)]


def test_a_config_that_does_not_fit_together(path):
    def change(members, file):
        record = json.loads(members[CONFIG])
        record["config"]["layers"][3]["config"]["units"] = 7
        members[CONFIG] = json.dumps(record).encode()

    changed(path, change)
    with strict_rules(False):
        (problem,) = find_problems(str(path))
    assert problem[:2] == (WARNING, "c")
    assert "has an output of shape (None, 4)" in problem.message


def test_a_file_that_is_none(tmp_path):
    assert [problem.severity for problem in find_problems(str(tmp_path / "none.keras"))] == [ERROR]


MEMORY = """
import resource, sys
from kerassurgery_fn.archive.file_checks import find_problems
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
before = peak()
assert not find_problems(sys.argv[1])
print(peak() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the peak of memory is measured as Linux does")
def test_a_check_takes_little_memory(tmp_path):
    layers = [layer("Dense", f"d{i}", units=2048, use_bias=False) for i in range(6)]
    kernel = np.ones((2048, 2048), np.float32)
    model = snapshot(sequential("big", (None, 2048), *layers), {f"d{i}": (kernel,) for i in range(6)})
    write_model(model, tmp_path / "big.keras")
    command = [sys.executable, "-c", MEMORY, tmp_path / "big.keras"]
    run = subprocess.run(command, capture_output=True, text=True, check=True, env={"PYTHONPATH": str(ROOT)})
    assert int(run.stdout) < 30, "megabytes, of a file of 100"


def test_names_of_several_lines_are_one_line(tmp_path):
    record = sequential("m", (None, 3), layer("Dense", "a", module="two\nlines", units=4))
    write_model(snapshot(record, {"a": (numbers(3, 4), numbers(4))}), tmp_path / "m.keras")
    (problem,) = find_problems(str(tmp_path / "m.keras"))
    assert "class two lines>Dense" in problem.message
