"""Writes scores to files: JSON to read and review, .npz for large models."""

from __future__ import annotations

import os
from typing import Any

from kerassurgery_fn.arguments import as_file, shortened, takes
from kerassurgery_fn.documents.npz_files import entries_of_npz, write_npz
from kerassurgery_fn.documents.plan_files import MAX_BYTES, dumps, loads, refuse_other_version
from kerassurgery_fn.documents.safe_files import read_limited, write_atomically
from kerassurgery_fn.errors import BadDocument, BadValue
from kerassurgery_fn.pruning.channel_scores import Scores

FORMAT, VERSION = "kerassurgery_fn scores", 1
PREFIX = "scores/"  # of the arrays in an .npz file, so that no group can have the name of the criterion


def encode_scores(scores: Scores) -> dict[str, Any]:
    """Scores as JSON-ready data.

    >>> encode_scores(Scores({"conv_1": [0.5, 2.0]}, "magnitude"))["scores"]
    {'conv_1': [0.5, 2.0]}
    """
    data = {name: values.tolist() for name, values in scores.items()}
    return {"format": FORMAT, "version": VERSION, "criterion": scores.criterion, "scores": data}


def decode_scores(data: Any) -> Scores:
    """The scores from the data that `encode_scores` returned.

    Raises:
        BadDocument: the data is not a document of scores.
        UnknownVersion: it has another version.
    """
    refuse_other_version(data, FORMAT, VERSION, "scores", "$.version")
    match data:
        case {"format": str(form), "criterion": str(criterion), "scores": dict(scores)} if form == FORMAT:
            return _checked(scores, criterion)
    raise BadDocument(f"$: expected scores, a document with the format {FORMAT!r}, got {shortened(data)}")


def _checked(scores: dict[str, Any], criterion: str) -> Scores:
    try:
        return Scores(scores, criterion)
    except BadValue as error:
        raise BadDocument(f"$.scores: {error}") from error


@takes(path=as_file)
def save_scores(scores: Scores, path: str | os.PathLike[str]) -> None:
    """Writes scores to a file: `.npz` in numpy's format, any other name as JSON. Both keep every bit.

    Raises:
        BadFile: the file cannot be written.
        BadValue: the value is not `Scores`.
    """
    if not isinstance(scores, Scores):
        raise BadValue(f"scores: expected Scores, got {shortened(scores)}; importance(snapshot) gives them")
    if not str(path).endswith(".npz"):
        write_atomically(path, dumps(encode_scores(scores)).encode("utf-8"))
        return
    arrays = {f"{PREFIX}{name}": values for name, values in scores.items()}
    write_npz(path, {"format": FORMAT, "version": VERSION, "criterion": scores.criterion, **arrays})


@takes(path=as_file)
def load_scores(path: str | os.PathLike[str]) -> Scores:
    """The scores in a file that `save_scores` wrote.

    Raises:
        BadFile: the file does not exist or cannot be read.
        BadDocument, UnknownVersion: it does not have scores.
    """
    content = read_limited(path, MAX_BYTES)
    if not str(path).endswith(".npz"):
        return decode_scores(loads(content, str(path)))
    arrays = entries_of_npz(content, path, "scores")
    head = {name: arrays[name].item() for name in ("format", "version", "criterion") if name in arrays}
    scores = {name.removeprefix(PREFIX): array for name, array in arrays.items() if name.startswith(PREFIX)}
    return decode_scores({**head, "scores": scores})
