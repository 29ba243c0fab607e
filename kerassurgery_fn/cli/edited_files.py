"""Applying an edit to a model file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from kerassurgery_fn.analysis.layer_costs import cost
from kerassurgery_fn.archive import read_metadata, read_model, write_model, write_weights
from kerassurgery_fn.archive.model_files import PACKAGE
from kerassurgery_fn.cli.terminal import note, print_json, working
from kerassurgery_fn.documents.plan_files import encode
from kerassurgery_fn.documents.safe_files import write_atomically
from kerassurgery_fn.errors import BadFile, NotEncodable, SurgeryError
from kerassurgery_fn.values.snapshot import Snapshot
from kerassurgery_fn.values.tables import change

LEGACY = {".h5", ".hdf5"}
TFLITE, WEIGHTS = ".tflite", ".weights.h5"
MODELS = (".keras", WEIGHTS)
MAX_PLAN = 1 << 16  # characters of an edit that is noted in the metadata of a file


def read(path: Path) -> Snapshot:
    """The snapshot of a model file, whose arrays stay in the file. Files of Keras 2 are read by Keras."""
    if path.name.endswith(WEIGHTS):
        raise BadFile(f"{path} has weights only; load them into a model: load-weights MODEL {path} -o OUT")
    with working(f"reading {path}"):
        return _read_by_keras(path) if path.suffix in LEGACY else read_model(path, lazy=True)


def _read_by_keras(path: Path) -> Snapshot:
    note(f"{path} is a file of Keras 2, and is read by Keras")
    import keras

    from kerassurgery_fn.keras_io.capturing import capture

    try:
        return capture(keras.models.load_model(path))
    except SurgeryError:
        raise
    except Exception as error:  # Keras raises ValueError, TypeError, OSError, ... for files that it cannot read
        raise BadFile(f"Keras cannot load {path}: {(str(error).splitlines() or [''])[0]}") from error


def refuse_targets(target: Path | None, *others: Path | None, overwrite: bool) -> None:
    """Raises BadFile if a model, or a file beside it, cannot be written, before any work is done."""
    if target is not None and not target.name.endswith(MODELS):
        raise BadFile(f"{target} must end in .keras, or Keras will not load it")
    for path in (target, *others):
        if path is None:
            continue
        if path.is_dir():
            raise BadFile(f"{path} is a folder, and cannot be written")
        if path.exists() and not overwrite:
            raise BadFile(f"{path} exists; pass --overwrite to replace it")
        if not path.parent.is_dir():
            raise BadFile(f"{path} cannot be written: there is no folder {path.parent}")


def apply(
    edit: Callable[[Snapshot], Snapshot], source: Path, target: Path, overwrite: bool, as_json: bool = False
) -> None:
    """Writes the model of a file, edited, to another file, with a note of the edit in its metadata."""
    refuse_targets(target, overwrite=overwrite)
    before = read(source)
    with working("editing"):
        after = edit(before)
    write(before, after, source, target, overwrite, as_json, edit)


def write(
    before: Snapshot, after: Snapshot, source: Path, target: Path, overwrite: bool, as_json: bool, edit: Any = None
) -> None:
    """Writes a changed model, and prints its cost before and after the change."""
    with working(f"writing {target}"):
        if target.name.endswith(WEIGHTS):
            write_weights(after, target, overwrite=overwrite)
        else:
            write_model(after, target, overwrite=overwrite, metadata=_metadata(source, edit))
    old, new = cost(before), cost(after)
    if as_json:
        print_json({
            "file": str(target), "parameters": [old.parameters, new.parameters], "macs": [old.macs, new.macs],
        })  # fmt: skip
        return
    note(
        f"{target}: {change(old.parameters, new.parameters)} parameters, "
        f"{change(old.macs, new.macs)} multiply-accumulates"
    )


def write_tflite(model: Snapshot, target: Path, quantize: str | None, as_json: bool) -> None:
    """Writes a model for TensorFlow Lite.

    Raises:
        BadFile: the target has another ending, the weights cannot be stored so, or the model cannot be converted.
    """
    if target.suffix != TFLITE:
        raise BadFile(f"{target} must end in {TFLITE}, as files of TensorFlow Lite do")
    if quantize not in (None, "float16", "int8"):
        raise BadFile(f"weights cannot be stored as {quantize!r}; --quantize takes float16 or int8")
    from kerassurgery_fn.keras_io.lite_conversion import to_tflite

    with working("converting by TensorFlow"):
        content = to_tflite(model, quantize)
    write_atomically(target, content)
    if as_json:
        print_json({"file": str(target), "bytes": len(content)})
    else:
        note(f"{target}: {len(content):,} bytes")


def _metadata(source: Path, edit: Any) -> Mapping[str, Any]:
    """The metadata of the source, with the edit added to the list of earlier edits."""
    metadata = {} if source.suffix in LEGACY else dict(read_metadata(source))
    ours = metadata.get(PACKAGE)
    ours = dict(ours) if isinstance(ours, Mapping) else {}
    edits = ours.get("edits")
    if edit is not None:
        ours["edits"] = [*(edits if isinstance(edits, list) else []), _noted(edit)]
    return {**metadata, PACKAGE: ours}


def _noted(edit: Any) -> Any:
    """An edit as JSON; only its name if it is large, or if it cannot be written."""
    name = type(edit).__name__
    try:
        data = encode(edit)["plan"]
    except NotEncodable:
        return name
    return data if len(repr(data)) < MAX_PLAN else name
