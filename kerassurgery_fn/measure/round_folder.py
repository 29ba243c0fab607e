"""The folder of iterative pruning: each round is written to disk, so that a run that was killed goes on.

    folder/run.json               the settings, and the fingerprint of the first model with digests of its weights
    folder/round_0/metrics.json   the first model: metric, costs, widths
    folder/round_1/plan.json      the edit of the round
    folder/round_1/model.keras    the model after fine-tuning, with the state of its optimizer
    folder/round_1/metrics.json   written last: without it, the round counts as not done

Files are written completely or not at all.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from toolz import valmap

from kerassurgery_fn.archive import read_model, write_model
from kerassurgery_fn.arguments import shortened
from kerassurgery_fn.documents.plan_files import MAX_BYTES, dumps, load_plan, loads, save_plan
from kerassurgery_fn.documents.preconditions import Fingerprint, differences, fingerprint, measured_in, with_measured
from kerassurgery_fn.documents.safe_files import on_disk, read_limited, write_atomically
from kerassurgery_fn.errors import BadDocument, BadValue, OtherModel, UnknownVersion
from kerassurgery_fn.pruning.pruning_rounds import Round, decode_round, encode_round
from kerassurgery_fn.values.snapshot import Snapshot

FORMAT, VERSION = "kerassurgery_fn pruning run", 1
SHOWN = 4  # differences in an error


@dataclass(frozen=True, eq=False)
class RoundFolder:
    """The folder of a run on a model.

    - `path`: the folder;
    - `first`: the first model.
    """

    path: Path
    first: Snapshot

    def rounds(self) -> list[Round]:
        """The rounds that are done, without gaps.

        Raises:
            BadFile, BadDocument, UnknownVersion: a file is damaged.
        """
        done = [number for number in self._numbers() if self._file(number, "metrics").exists()]
        return [self._read(number) for number in done]

    def model(self, number: int) -> Snapshot:
        """The model after a round."""
        if not number:
            return self.first
        return with_measured(read_model(self._file(number, "model", "keras")), measured_in(self.first))

    def save(self, each: Round, model: Snapshot) -> None:
        """Writes a round and its model.

        Raises:
            BadFile: a file cannot be written.
        """
        folder = self.path / f"round_{each.number}"
        with on_disk(folder, "written"):
            folder.mkdir(parents=True, exist_ok=True)
        if each.plan is not None:
            save_plan(each.plan, folder / "plan.json")
            write_model(model, folder / "model.keras", overwrite=True)
        write_atomically(folder / "metrics.json", dumps(encode_round(each)).encode("utf-8"))

    def _numbers(self) -> list[int]:
        with on_disk(self.path, "read"):
            names = [name.removeprefix("round_") for name in os.listdir(self.path) if name.startswith("round_")]
        return sorted(int(name) for name in names if name.isdecimal())

    def _file(self, number: int, name: str, suffix: str = "json") -> Path:
        return self.path / f"round_{number}" / f"{name}.{suffix}"

    def _read(self, number: int) -> Round:
        path = self._file(number, "metrics")
        plan = load_plan(self._file(number, "plan")) if number else None
        return decode_round(loads(read_limited(path, MAX_BYTES), str(path)), str(path), plan)


def round_folder(folder: str, first: Snapshot, settings: Mapping[str, Any]) -> RoundFolder:
    """The folder of a run, created if it does not exist.

    Args:
        folder: its path.
        first: the first model.
        settings: all settings that the result depends on, JSON-ready.

    Raises:
        OtherModel: the folder is that of another model; the message names layers.
        BadValue: it is that of other settings; the message names them.
        BadFile, BadDocument, UnknownVersion: it cannot be read or written.
    """
    path = Path(folder) / "run.json"
    expected = fingerprint(first, weights=True)
    if path.exists():
        data = _checked(loads(read_limited(path, MAX_BYTES), str(path)), path)
        refuse_other_model(folder, _fingerprint(data["model"], path), expected, first.name)
        refuse_other_settings(folder, data["settings"], settings)
    else:
        with on_disk(path.parent, "written"):
            path.parent.mkdir(parents=True, exist_ok=True)
        document = {"format": FORMAT, "version": VERSION, "settings": dict(settings), "model": _as_data(expected)}
        write_atomically(path, dumps(document).encode("utf-8"))
    return RoundFolder(Path(folder), first)


def refuse_other_model(folder: str, saved: Fingerprint, model: Fingerprint, name: str) -> None:
    """Raises OtherModel if a folder was written for another model."""
    if listed := list(differences(saved, model)):
        more = f"; and {len(listed) - SHOWN} more" if len(listed) > SHOWN else ""
        raise OtherModel(
            f"the folder {folder!r} has rounds of another model than {name!r}: {'; '.join(listed[:SHOWN])}{more}. Give "
            "another folder, or the model as it was before the first round"
        )


def refuse_other_settings(folder: str, saved: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
    """Raises BadValue if a folder was written with other settings."""
    settings = loads(dumps(dict(settings)).encode("utf-8"), "settings")  # as JSON gives them back
    names = [name for name in {**saved, **settings} if saved.get(name) != settings.get(name)]
    if names:
        listed = [f"{name}={shortened(saved.get(name))} instead of {shortened(settings.get(name))}" for name in names]
        raise BadValue(
            f"the folder {folder!r} has rounds with other settings: {', '.join(listed[:SHOWN])}. Give another folder, "
            "or the same settings to go on"
        )


def _as_data(print_of_model: Fingerprint) -> dict[str, Any]:
    layers = {path: [name, dict(counts), digest] for path, (name, counts, digest) in print_of_model.layers.items()}
    return {"layers": layers, "weights": dict(print_of_model.weights)}


def _fingerprint(data: Mapping[str, Any], path: Path) -> Fingerprint:
    try:
        return Fingerprint(valmap(tuple, data["layers"]), data["weights"])
    except (KeyError, TypeError, AttributeError) as error:
        raise BadDocument(f"{path}: $.model is no fingerprint of a model") from error


def _checked(data: Any, path: Path) -> Any:
    match data:
        case {"format": str(form), "version": version} if form == FORMAT and version != VERSION:
            raise UnknownVersion(f"{path}: this library reads version {VERSION} of runs, not {version}")
        case {"format": str(form), "settings": dict(), "model": dict()} if form == FORMAT:
            return data
    raise BadDocument(f"{path}: expected a run of iterative pruning, got {shortened(data)}")
