"""`read_model` and `write_model`: `.keras` files as snapshots and back, without Keras."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import h5py

from kerassurgery_fn import __version__
from kerassurgery_fn.archive.archive_members import CONFIG, METADATA, WEIGHTS
from kerassurgery_fn.archive.archive_writing import new_member, write_text
from kerassurgery_fn.archive.custom_groups import add_weight_groups
from kerassurgery_fn.archive.file_regions import growing_window
from kerassurgery_fn.archive.h5_weights import WeightFile, WeightWriter, open_weights
from kerassurgery_fn.archive.json_limits import parse_json
from kerassurgery_fn.archive.model_sources import open_members, open_weight_file
from kerassurgery_fn.archive.saved_config import to_record
from kerassurgery_fn.archive.saved_training import read_training, write_training
from kerassurgery_fn.archive.saved_weights import add_vocabularies, read_layers, write_layers
from kerassurgery_fn.archive.weight_checks import check_groups, check_weights
from kerassurgery_fn.arguments import as_file, as_file_or_folder, as_flag, as_mapping, as_snapshot, optional, takes
from kerassurgery_fn.documents.safe_files import write_with
from kerassurgery_fn.errors import BadFile, BrokenSnapshot, NotEncodable, SurgeryError
from kerassurgery_fn.graph import Record
from kerassurgery_fn.rules.support import KERAS
from kerassurgery_fn.values.snapshot import Snapshot

Path_ = str | os.PathLike[str]
PACKAGE = "kerassurgery_fn"


@takes(path=as_file_or_folder, lazy=as_flag)
def read_model(path: Path_, *, lazy: bool = False) -> Snapshot:
    """The snapshot of the model in a `.keras` file, with the state of its optimizer. Keras is not needed.

    It is the snapshot that `capture` takes of the model that was saved. Nothing of the file is imported or run: a
    Lambda layer stays data. Keras does not write which weights of a layer of one's own are state, and Keras before 3.11
    not whether a single input or output is in a list.

    Args:
        path: a `.keras` file, or the folder that `model.save(path, zipped=False)` has written.
        lazy: whether arrays stay in the file, and are read when they are used. The file must not be changed in place
            while the snapshot is used; it may be replaced, as `write_model` does. Its check sum is not compared.

    Raises:
        BadFile: the file cannot be read, is no `.keras` file, is damaged, or does not fit together.
        NotAGraph: the model is subclassed and has no graph.
        HiddenState: a layer is quantized in a way that only Keras can read.
        BrokenSnapshot: the config is not as Keras 3 writes it.
    """
    with open_members(os.fspath(path)) as members, _as_keras_writes(path):
        config = _json(members, CONFIG)
        record = to_record(config, f"{path}: {CONFIG}")
        source = f"{path}: {WEIGHTS}"
        with members.open(WEIGHTS, check=not lazy) as region, open_weights([region], source, lazy) as weights:
            add_vocabularies(record, members, weights)
            add_weight_groups(record, weights)
            add_weight_groups(config, weights)
            return _with_weights(record, config, weights, str(path))


@takes(path=as_file_or_folder, snapshot=as_snapshot, lazy=as_flag)
def read_weights(path: Path_, snapshot: Snapshot, *, lazy: bool = False) -> Snapshot:
    """A snapshot with the weights, and the state of the optimizer, that a file has for them.

    Args:
        path: a file that `model.save_weights` has written: `.weights.h5`, or `.weights.json` with shards beside it; or
            a `.keras` file, of which only the weights are read.
        snapshot: a model of the architecture that the weights are of.
        lazy: as for `read_model`.

    Raises:
        BadFile: the file cannot be read, is no weight file, or has the weights of another architecture.
    """
    with open_weight_file(os.fspath(path), lazy) as weights, _as_keras_writes(path):
        return _with_weights(snapshot.record, snapshot.record, weights, str(path))


def _with_weights(record: Record, config: Record, weights: WeightFile, path: str) -> Snapshot:
    """The snapshot of a record with the weights of a file, checked. `config` is the record as the file has it."""
    check_groups(config, weights, path)
    snapshot = Snapshot(record, read_layers(config, weights))
    check_weights(snapshot, path)  # and whether the calls of the config fit together
    return Snapshot(snapshot.record, snapshot.weights, read_training(snapshot, weights))


@contextmanager
def _as_keras_writes(path: Path_) -> Iterator[None]:
    """Turns errors that come of a config with other fields than Keras writes into BadFile.

    Errors name parts of the file. A name may have several lines; an error has one.
    """
    try:
        yield
    except SurgeryError as error:
        if "\n" not in str(error):
            raise
        raise type(error)(" ".join(str(error).split())) from error
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise BadFile(f"{path}: the config is not as Keras writes it ({type(error).__name__}: {error})") from error


@takes(path=as_file_or_folder)
def read_metadata(path: Path_) -> Mapping[str, Any]:
    """The metadata of a `.keras` file: the version of Keras, the date, and the metadata that were passed to
    `write_model`.

    Raises:
        BadFile: the file cannot be read or is no `.keras` file.
    """
    with open_members(os.fspath(path)) as members:
        metadata = _json(members, METADATA)
    if not isinstance(metadata, dict):
        raise BadFile(f"{path}: {METADATA} is no JSON object")
    return metadata


@takes(snapshot=as_snapshot, path=as_file, overwrite=as_flag, metadata=optional(as_mapping))
def write_model(
    snapshot: Snapshot, path: Path_, *, overwrite: bool = False, metadata: Mapping[str, Any] | None = None
) -> None:
    """Writes a snapshot as a `.keras` file, which `keras.models.load_model` loads. Keras is not needed.

    The file is written under another name first and then renamed, so that it is never incomplete. Equal snapshots give
    equal bytes.

    Args:
        snapshot: the model as a value.
        path: a path that ends in `.keras`.
        overwrite: whether a file of this name may be replaced.
        metadata: JSON data that is kept in the file beside the weights, for example `read_metadata(original)`. Keras
            does not read it.

    Raises:
        BadFile: the path does not end in `.keras`, the file exists, or it cannot be written.
        BrokenSnapshot: a layer has other weights than its config says, or none yet.
        HiddenState: a layer is quantized in a way that only Keras can write.
        NotEncodable: the metadata is not JSON.
    """
    target = _target(Path(path), overwrite)
    texts = {METADATA: _dumps(_metadata(metadata or {})), CONFIG: json.dumps(snapshot.record)}

    def write(temporary: Path) -> None:
        with zipfile.ZipFile(temporary, "w") as archive:
            for name, text in texts.items():
                write_text(archive, name, text)
            with new_member(archive, WEIGHTS) as member, h5py.File(member, "w") as file:
                _write_state(WeightWriter(file, member), snapshot)

    write_with(target, write)


@takes(snapshot=as_snapshot, path=as_file, overwrite=as_flag)
def write_weights(snapshot: Snapshot, path: Path_, *, overwrite: bool = False) -> None:
    """Writes the weights of a snapshot, and the state of its optimizer, for `model.load_weights`.

    Args:
        snapshot: the model as a value.
        path: a path that ends in `.weights.h5`.
        overwrite: whether a file of this name may be replaced.

    Raises:
        BadFile, BrokenSnapshot, HiddenState: see `write_model`.
    """

    def write(temporary: Path) -> None:
        with (
            temporary.open("w+b") as whole, growing_window(whole) as window, h5py.File(window, "w") as file,
        ):  # fmt: skip
            _write_state(WeightWriter(file, window), snapshot)

    write_with(_target(Path(path), overwrite, ".weights.h5"), write)


def _write_state(writer: WeightWriter, snapshot: Snapshot) -> None:
    """Writes the weights and the state of the optimizer.

    Raises:
        BrokenSnapshot: the config has values that Keras does not write.
    """
    try:
        write_layers(writer, snapshot)
        write_training(writer, snapshot)
    except SurgeryError:
        raise
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise BrokenSnapshot(
            f"{snapshot!r} is not as Keras writes a model ({type(error).__name__}: {error}); take snapshots with "
            "capture()"
        ) from error


def _target(path: Path, overwrite: bool, ending: str = ".keras") -> Path:
    """The path, checked before any work is done."""
    if not path.name.endswith(ending):
        raise BadFile(f"{path} must end in {ending}, or Keras will not load it")
    if path.is_dir():
        raise BadFile(f"{path} is a folder, and cannot be written")
    if path.exists() and not overwrite:
        raise BadFile(f"{path} exists; pass overwrite=True to replace it")
    return path


def _metadata(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """The metadata of a new file: those from the user, the version of Keras, and the library that wrote the file."""
    by = metadata.get(PACKAGE)
    written_by = {**(by if isinstance(by, Mapping) else {}), "version": __version__}
    return {"keras_version": _keras_version(), **metadata, PACKAGE: written_by}


def _keras_version() -> str:
    """The version of the installed Keras; if Keras is not installed, the version for which the rules were written."""
    try:
        return version("keras")
    except PackageNotFoundError:
        return KERAS


def _dumps(metadata: Mapping[str, Any]) -> str:
    try:
        return json.dumps(metadata)
    except (TypeError, ValueError, RecursionError) as error:
        raise NotEncodable(f"the metadata is not JSON: {error}") from None


def _json(members: Any, name: str) -> Any:
    return parse_json(members.read(name), f"{members.path}: {name}")
