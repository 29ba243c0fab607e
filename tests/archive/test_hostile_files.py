"""Files that are broken or made to do harm: each is refused in one line, and nothing is left behind."""

import filecmp
import gc
import io
import json
import stat
import subprocess
import sys
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
import toolz

import kerassurgery_fn
from helpers.records import call as called
from helpers.records import functional, layer, numbers, sequential, snapshot
from kerassurgery_fn.archive.archive_members import CONFIG, METADATA, WEIGHTS
from kerassurgery_fn.archive.file_regions import GrowingWindow
from kerassurgery_fn.archive.model_files import read_metadata, read_model, write_model, write_weights
from kerassurgery_fn.errors import BadFile, BrokenSnapshot, NotAGraph, NotEncodable, SurgeryError
from kerassurgery_fn.rules.strictness import strict_rules
from kerassurgery_fn.values.mapped_arrays import is_read_lazily

RECORD = sequential("m", (None, 3), layer("Dense", "a", units=4), layer("Dense", "b", units=2))
WEIGHTS_OF_M = {"a": (numbers(3, 4), numbers(4)), "b": (numbers(4, 2), numbers(2))}


ROOT = Path(__file__).parents[2]
HALF = "{f'd{i}': range(i, 2048, 2) for i in range(7)}"
MEMORY_EDITS = {
    "copy": "snapshot",
    "delete": f"kerassurgery_fn.DeleteChannels({HALF})(snapshot)",
    "delete twice": "toolz.pipe(snapshot, *[kerassurgery_fn.DeleteChannels('d1', range(600))] * 3)",
    "reorder": "kerassurgery_fn.ReorderChannels('d1', range(2047, -1, -1))(snapshot)",
    "convert": "kerassurgery_fn.ConvertDtype('float16')(snapshot)",
    "prune": "kerassurgery_fn.prune(snapshot, macs=0.3).model",
}
SELDOM = {"copy", "delete twice", "reorder"}
EDITED = """
import resource, sys, toolz
import kerassurgery_fn, kerassurgery_fn.edits.deletion, kerassurgery_fn.measure.model_pruning
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
snapshot = kerassurgery_fn.read_model(sys.argv[1], lazy=True)
before = peak()
kerassurgery_fn.write_model(EDIT, sys.argv[2])
print(peak() - before)
"""


@pytest.fixture
def path(tmp_path):
    write_model(snapshot(RECORD, WEIGHTS_OF_M), tmp_path / "m.keras")
    return tmp_path / "m.keras"


def members(path):
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def rewritten(path, **options):
    """Writes the archive anew; `options` are members, None for those that are left out."""
    new = members(path) | {name.replace("__", "."): content for name, content in options.items()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in new.items():
            if content is not None:
                archive.writestr(name, content)


def with_weights(path, change):
    """Changes the weight file of an archive with h5py."""
    content = io.BytesIO(members(path)[WEIGHTS])
    with h5py.File(content, "r+") as file:
        change(file)
    rewritten(path, **{WEIGHTS: content.getvalue()})


def with_config(path, **fields):
    record = json.loads(members(path)[CONFIG])
    rewritten(path, **{CONFIG: json.dumps(record | fields)})


def check_refused(path, error, match):
    before = sorted(path.parent.iterdir())
    with pytest.raises(error, match=match) as refusal:
        read_model(path)
    assert "\n" not in str(refusal.value)
    assert sorted(path.parent.iterdir()) == before


def test_the_file_is_read_before_it_is_damaged(path):
    assert read_model(path) == snapshot(RECORD, WEIGHTS_OF_M)


def test_a_compressed_archive(path):
    content = members(path)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in content.items():
            archive.writestr(name, text)
    assert read_model(path) == read_model(path, lazy=True) == snapshot(RECORD, WEIGHTS_OF_M)


def test_lazy_arrays_stay_in_the_file(path):
    lazy = read_model(path, lazy=True)
    assert lazy == read_model(path)
    assert is_read_lazily(lazy.weights["a"][0])
    other = snapshot(RECORD, WEIGHTS_OF_M | {"b": (numbers(4, 2) + 1, numbers(2))})
    write_model(other, path, overwrite=True)
    assert lazy == snapshot(RECORD, WEIGHTS_OF_M)
    write_model(lazy, path, overwrite=True)
    assert read_model(path) == lazy


@pytest.fixture(scope="module")
def big_file(tmp_path_factory):
    """A file of 8 arrays of 16 MB."""
    layers = [layer("Dense", f"d{i}", units=2048, use_bias=False) for i in range(8)]
    kernel = np.random.default_rng(0).random((2048, 2048), dtype="float32")
    model = snapshot(sequential("big", (None, 2048), *layers), {f"d{i}": (kernel,) for i in range(8)})
    write_model(model, path := tmp_path_factory.mktemp("big") / "big.keras")
    return path


@pytest.mark.skipif(sys.platform != "linux", reason="the peak of memory is measured as Linux does")
@pytest.mark.parametrize(
    "edit", [pytest.param(name, marks=pytest.mark.slow) if name in SELDOM else name for name in MEMORY_EDITS]
)
def test_an_edit_of_a_file_takes_the_memory_of_a_few_blocks(edit, big_file, tmp_path):
    """The file is read, edited and written. The analysis takes some megabytes of its own."""
    code = EDITED.replace("EDIT", MEMORY_EDITS[edit])
    command = [sys.executable, "-c", code, big_file, tmp_path / "lazy.keras"]
    run = subprocess.run(command, capture_output=True, text=True, check=True, env={"PYTHONPATH": str(ROOT)})
    assert int(run.stdout) < 20, "megabytes"
    namespace = {"kerassurgery_fn": kerassurgery_fn, "toolz": toolz, "snapshot": read_model(big_file)}
    write_model(eval(MEMORY_EDITS[edit], namespace), tmp_path / "memory.keras")
    assert filecmp.cmp(tmp_path / "lazy.keras", tmp_path / "memory.keras", shallow=False)


def test_a_mapping_of_the_user_keeps_what_was_written_to_it(tmp_path):
    numbers(3, 4).tofile(tmp_path / "kernel")
    kernel = np.memmap(tmp_path / "kernel", "float32", "c", shape=(3, 4))
    kernel += 1
    model = snapshot(RECORD, WEIGHTS_OF_M | {"a": (kernel, numbers(4))})
    write_model(model, tmp_path / "m.keras")
    np.testing.assert_array_equal(kernel, numbers(3, 4) + 1)
    np.testing.assert_array_equal(read_model(tmp_path / "m.keras").weights["a"][0], numbers(3, 4) + 1)


# --- the archive


def test_no_file(tmp_path):
    check_refused(tmp_path / "none.keras", BadFile, "cannot be read: No such file")


def test_a_folder(tmp_path):
    (tmp_path / "m.keras").mkdir()
    check_refused(tmp_path / "m.keras", BadFile, "is a folder without config.json")


def test_no_archive(path):
    path.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(500))
    check_refused(path, BadFile, "is no .keras file")


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.99])
def test_a_truncated_file(path, share):
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    check_refused(path, BadFile, "is no .keras file")


@pytest.mark.parametrize("name", [CONFIG, WEIGHTS])
def test_a_missing_member(path, name):
    rewritten(path, **{name: None})
    check_refused(path, BadFile, f"has no member {name}")


def test_missing_metadata_only_raises_when_it_is_read(path):
    rewritten(path, **{METADATA: None})
    assert read_model(path).name == "m"
    with pytest.raises(BadFile, match=r"has no member metadata\.json"):
        read_metadata(path)


@pytest.mark.parametrize("name", ["/etc/passwd", "../m.txt", "assets/../../m.txt", "assets\\..\\..\\m.txt", "C:/m.txt"])
def test_names_that_leave_the_archive(path, name):
    rewritten(path, **{name: b"m"})
    check_refused(path, BadFile, "has a name that leaves the archive")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_member_twice(path):
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(CONFIG, "{}")
    check_refused(path, BadFile, "'config.json' is there twice")


def test_a_link(path):
    info = zipfile.ZipInfo("assets/link")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(info, "/etc/passwd")
    check_refused(path, BadFile, "is a link")


def test_a_bomb(path):
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("assets/zeros", bytes(100 << 20))
    check_refused(path, BadFile, "expands from .* more than 100 times")


def test_flipped_bits_are_noticed(path):
    content = bytearray(path.read_bytes())
    content[content.index(numbers(3, 4).tobytes())] ^= 1
    path.write_bytes(content)
    check_refused(path, BadFile, "model.weights.h5 cannot be unpacked: Bad CRC-32")


def test_an_encrypted_member(path):
    content = bytearray(path.read_bytes())
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(mark) + offset] |= 1
        position = content.index(CONFIG.encode(), content.index(mark))
        content[content.rindex(mark, 0, position) + offset] |= 1
    path.write_bytes(content)
    check_refused(path, BadFile, "cannot be unpacked")


# --- the config


@pytest.mark.parametrize("text", [b"", b"{", b"\xff\xfe{}", b"nonsense"])
def test_no_json(path, text):
    rewritten(path, **{CONFIG: text})
    check_refused(path, BadFile, "is not valid JSON")


@pytest.mark.parametrize("depth", [300, 100_000])
def test_deep_json(path, depth):
    rewritten(path, **{CONFIG: b"[" * depth + b"]" * depth})
    check_refused(path, BadFile, "is nested more deeply than 200 levels")


@pytest.mark.parametrize("value", [[], 3, None, {}, {"config": []}, {"config": {}, "name": "m"}])
def test_no_config_of_a_model(path, value):
    rewritten(path, **{CONFIG: json.dumps(value)})
    check_refused(path, BadFile, "is not the config of a model")


def test_a_model_without_a_graph(path):
    with_config(path, class_name="Backbone", config={"width": 3})
    check_refused(path, NotAGraph, "class 'Backbone', and its config is no graph")


@pytest.mark.parametrize(
    "fields",
    [
        {"config": {"name": "m", "layers": [3]}},
        {"config": {"name": "m", "layers": [{"class_name": "Dense", "config": {}}]}},
        {"config": {"name": "m", "layers": [{"class_name": ["Dense"], "config": {"name": "a"}}]}},
        {"config": {"name": 3, "layers": []}},
    ],
)
def test_broken_records(path, fields):
    with_config(path, **fields)
    check_refused(path, SurgeryError, ".")


def test_a_layer_of_more_channels_than_memory(path):
    for units in (10**9, 10**12, -1, "x", 1.5, None):
        config = json.loads(members(path)[CONFIG])
        config["config"]["layers"][1]["config"]["units"] = units
        rewritten(path, **{CONFIG: json.dumps(config)})
        with strict_rules(False):
            assert read_model(path).weights.keys() == {
                "a",
                "b",
            }  # the layer cannot be analysed, so nothing is known of it


def test_a_file_of_an_older_keras(tmp_path):
    record = functional("f", {"x": (None, 3)}, called(layer("Dense", "a", units=4), "x"), outputs="a")
    model = snapshot(record, {"a": WEIGHTS_OF_M["a"]})
    write_model(model, path := tmp_path / "f.keras")
    config = json.loads(members(path)[CONFIG])
    config["config"]["output_layers"] = [config["config"]["output_layers"]]
    config["config"]["input_layers"] = [config["config"]["input_layers"]]
    del config["config"]["layers"][0]["config"]["optional"]
    rewritten(path, **{CONFIG: json.dumps(config)})
    assert read_model(path) == model


@pytest.mark.parametrize("rank", [10**9, "x", -1, 1.5])
def test_ranks_of_more_memory_than_there_is(path, rank):
    config = json.loads(members(path)[CONFIG])
    config["config"]["layers"][1]["config"]["lora_rank"] = rank
    rewritten(path, **{CONFIG: json.dumps(config)})
    check_refused(path, BadFile, "is not a rank of LoRA weights")


def test_cells_without_a_class(tmp_path):
    record = functional(
        "f", {"x": (None, 5, 3)}, called(layer("RNN", "r", cell={"config": {}}), "x", out=(None, 4)), outputs="r"
    )
    with zipfile.ZipFile(path := tmp_path / "f.keras", "w") as archive:
        archive.writestr(CONFIG, json.dumps(record))
        content = io.BytesIO()
        h5py.File(content, "w").close()
        archive.writestr(WEIGHTS, content.getvalue())
    check_refused(path, BadFile, r"is not as Keras writes it \(KeyError: 'class_name'\)")


def test_calls_that_do_not_fit_together(tmp_path):
    record = functional("f", {"x": (None, 3)}, called(layer("Dense", "a", units=4), "x"), outputs="a")
    write_model(snapshot(record, {"a": WEIGHTS_OF_M["a"]}), path := tmp_path / "f.keras")
    config = json.loads(members(path)[CONFIG])
    config["config"]["output_layers"] = [["nobody", 0, 0]]
    rewritten(path, **{CONFIG: json.dumps(config)})
    check_refused(path, SurgeryError, "nobody")


# --- the weights


def test_no_hdf5(path):
    rewritten(path, **{WEIGHTS: b"nonsense"})
    check_refused(path, BadFile, "is no HDF5 file")


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_truncated_hdf5(path, share):
    content = members(path)[WEIGHTS]
    rewritten(path, **{WEIGHTS: content[: int(share * len(content))]})
    check_refused(path, BadFile, "is no HDF5 file")


def replaced(name, **options):
    def change(file):
        del file[name]
        file.create_dataset(name, **options)

    return change


def linked(name, link):
    def change(file):
        del file[name]
        file[name] = link

    return change


def without(name):
    def change(file):
        del file[name]

    return change


def virtual(file):
    del file["layers/dense/vars/0"]
    layout = h5py.VirtualLayout((3, 4), "f4")
    layout[:] = h5py.VirtualSource("other.h5", "w", (3, 4))
    file.create_virtual_dataset("layers/dense/vars/0", layout)


WRONG = {
    "objects": (
        replaced("layers/dense/vars/0", data=np.array([["a"]], object), dtype=h5py.string_dtype()),
        "of object",
    ),
    "strings": (replaced("layers/dense/vars/0", data=np.array([b"abc"])), r"of \|S3"),
    "opaque": (replaced("layers/dense/vars/0", data=np.zeros(3, "V2")), r"of \|V2"),
    "records": (replaced("layers/dense/vars/0", data=np.zeros(2, [("a", "f4")])), "is no array of numbers"),
    "complex": (replaced("layers/dense/vars/0", data=np.zeros((3, 4), "c8")), "of complex64"),
    "empty": (replaced("layers/dense/vars/0", data=h5py.Empty("f4")), "is no array of numbers"),
    "references": (replaced("layers/dense/vars/0", shape=(2,), dtype=h5py.ref_dtype), "is no array of numbers"),
    "huge": (
        replaced("layers/dense/vars/0", shape=(10**9, 10), chunks=(1, 10), dtype="f4"),
        "but the file has only 0 bytes",
    ),
    "compressed bomb": (
        replaced("layers/dense/vars/0", data=np.zeros(1 << 25, "f4"), compression="gzip"),
        "but the file has only",
    ),
    "huge, never written": (
        replaced("layers/dense/vars/0", shape=(10**9,), dtype="f4"),
        "but the file has only 0 bytes",
    ),
    "other file": (linked("layers/dense/vars/0", h5py.ExternalLink("/etc/passwd", "/x")), "is a link"),
    "soft link": (linked("layers/dense", h5py.SoftLink("/layers/dense_1")), "is a link"),
    "data in another file": (
        replaced("layers/dense/vars/0", shape=(3, 4), dtype="f4", external=[("/etc/passwd", 0, 48)]),
        "is in another",
    ),
    "virtual": (virtual, "is put together from other arrays"),
    "a group": (linked("layers/dense/vars/0", np.dtype("f4")), "is no array"),
    "wrong names": (lambda file: file.move("layers/dense/vars/1", "layers/dense/vars/x"), "not arrays 0, 1"),
    "a weight missing": (
        without("layers/dense/vars/1"),
        r"layer 'a' \(Dense\) has weights of shapes \[\(3, 4\)\], and by its config",
    ),
    "a layer missing": (without("layers/dense_1"), r"layer 'b' \(Dense\) has weights of shapes \[\]"),
    "all layers missing": (without("layers"), "layer 'a' .*; 1 more layers differ"),
    "a layer too many": (lambda file: file.copy("layers/dense", "layers/dense_2"), "in layers/dense_2, and its config"),
    "another shape": (replaced("layers/dense/vars/0", data=np.zeros((3, 5), "f4")), r"\(3, 5\).*\(3, 4\)"),
    "another rank": (replaced("layers/dense/vars/0", data=np.zeros(12, "f4")), r"\(12,\).*\(3, 4\)"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_weights(path, name):
    change, match = WRONG[name]
    with_weights(path, change)
    check_refused(path, SurgeryError, match)


@pytest.mark.parametrize("links", [["again"], ["again", "and_again"]])
def test_a_group_that_contains_itself(path, links):
    """Two links to itself are 2 ** 100 paths of 100 groups."""

    def change(file):
        del file["layers/dense/vars"]
        for name in links:
            file[f"layers/dense/{name}"] = file["layers/dense"]

    with_weights(path, change)
    check_refused(path, BadFile, "is in several places")


@pytest.mark.parametrize("dtype", [">f4", "<f2", "<f8"])
def test_other_kinds_of_numbers(path, dtype):
    with_weights(path, replaced("layers/dense/vars/0", data=numbers(3, 4).astype(dtype)))
    kernel = read_model(path).weights["a"][0]
    np.testing.assert_array_equal(kernel, numbers(3, 4))
    assert kernel.dtype.isnative


# --- writing


def test_a_file_is_not_overwritten_unless_told(path):
    before = path.read_bytes()
    other = snapshot(RECORD, WEIGHTS_OF_M | {"b": (numbers(4, 2) + 1, numbers(2))})
    with pytest.raises(BadFile, match="exists; pass overwrite=True"):
        write_model(other, path)
    assert path.read_bytes() == before
    write_model(other, path, overwrite=True)
    assert read_model(path) == other


def test_other_endings_and_folders(tmp_path):
    (tmp_path / "folder.keras").mkdir()
    for name, match in (
        ("m.h5", "must end in .keras"),
        ("folder.keras", "is a folder"),
        ("no/m.keras", "No such file"),
    ):
        with pytest.raises(BadFile, match=match):
            write_model(snapshot(RECORD, WEIGHTS_OF_M), tmp_path / name, overwrite=True)
    assert [each.name for each in tmp_path.iterdir()] == ["folder.keras"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError(28, "No space left on device")])
def test_nothing_is_left_of_a_write_that_fails(path, error, monkeypatch):
    def fail(*_):
        raise error

    before = path.read_bytes()
    monkeypatch.setattr("kerassurgery_fn.archive.model_files.write_training", fail)
    with pytest.raises((KeyboardInterrupt, BadFile)):
        write_model(snapshot(RECORD, WEIGHTS_OF_M), path, overwrite=True)
    assert (path.read_bytes(), list(path.parent.iterdir())) == (before, [path])


class FullDisk:
    """A file that has no space left after some writes, or that is interrupted then."""

    def __init__(self, file, writes, error):
        self._file, self._writes, self._error = file, writes, error

    def write(self, content):
        self._writes -= 1
        if self._writes < 0:
            raise self._error
        return self._file.write(content)

    def __getattr__(self, name):
        return getattr(self._file, name)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(28, "No space left on device")], ids=["stop", "full"])
@pytest.mark.parametrize("writes", [0, 1, 3, 10])
@pytest.mark.parametrize("name", ["m.keras", "m.weights.h5"])
def test_a_write_that_fails_within_the_weights(name, writes, error, tmp_path, monkeypatch, capfd):
    model, write = snapshot(RECORD, WEIGHTS_OF_M), {"m.keras": write_model, "m.weights.h5": write_weights}[name]
    write(model, path := tmp_path / name)
    before, start = path.read_bytes(), GrowingWindow.__init__
    on_full_disk = lambda window, file, *sums: start(window, FullDisk(file, writes, error), *sums)  # noqa: E731
    monkeypatch.setattr(GrowingWindow, "__init__", on_full_disk)
    with pytest.raises((KeyboardInterrupt, BadFile), match=r"cannot be written: No space left on device|^$"):
        write(model, path, overwrite=True)
    assert (path.read_bytes(), list(tmp_path.iterdir())) == (before, [path])
    gc.collect()
    assert capfd.readouterr() == ("", "")


LIMITED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
from kerassurgery_fn.cli.program import main
main()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the limit on the size of files is set as Linux does")
@pytest.mark.parametrize("name", ["copy.keras", pytest.param("copy.weights.h5", marks=pytest.mark.slow)])
def test_a_file_that_the_system_does_not_let_grow(name, big_file, tmp_path):
    command = [sys.executable, "-c", LIMITED, "convert", big_file, "-o", tmp_path / name]
    run = subprocess.run(command, capture_output=True, text=True, env={"PYTHONPATH": str(ROOT)})
    assert run.returncode == 1
    assert run.stderr == f"error: {tmp_path / name} cannot be written: File too large\n"
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 4 MB."""
    (disk := tmp_path / "disk").mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", disk], capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"a small disk cannot be mounted here: {mounted.stderr.strip()}")
    yield disk
    subprocess.run(["umount", disk], check=True)


@pytest.mark.skipif(sys.platform != "linux", reason="a disk in memory is mounted as Linux does")
def test_a_small_disk(big_file, small_disk):
    with pytest.raises(BadFile, match="cannot be written: No space left on device"):
        write_model(read_model(big_file, lazy=True), small_disk / "copy.keras")
    assert list(small_disk.iterdir()) == []


def test_metadata_that_is_no_json(tmp_path):
    with pytest.raises(NotEncodable, match="the metadata is not JSON"):
        write_model(snapshot(RECORD, WEIGHTS_OF_M), tmp_path / "m.keras", metadata={"a": object()})


def test_configs_that_keras_does_not_write(tmp_path):
    record = sequential("m", (None, 3), layer("Dense", "a", units=4, lora_rank=2, lora_alpha=[3]))
    arrays = (numbers(3, 4), numbers(4), numbers(3, 2), numbers(2, 4))
    with pytest.raises(BrokenSnapshot, match="is not as Keras writes a model"):
        write_model(snapshot(record, {"a": arrays}), tmp_path / "m.keras")


def test_weights_of_layers_that_are_not_there(tmp_path):
    with pytest.raises(BrokenSnapshot, match="weights of 'c'"):
        write_model(snapshot(RECORD, WEIGHTS_OF_M | {"c": (numbers(2),)}), tmp_path / "m.keras")


def test_too_many_weights(tmp_path):
    both = layer("Bidirectional", "b", layer=layer("GRU", "g", units=2), backward_layer=layer("GRU", "h", units=2))
    record = functional("f", {"x": (None, 5, 3)}, called(both, "x", out=(None, 4)), outputs="b")
    with pytest.raises(BrokenSnapshot, match=r"'b'.* has 5 arrays"):
        write_model(snapshot(record, {"b": (numbers(2),) * 5}), tmp_path / "m.keras")
