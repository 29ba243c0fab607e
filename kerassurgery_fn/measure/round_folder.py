"""The folder of iterative pruning: each round is written to disk, so that a run that was killed can be resumed.

    folder/run.json               the settings, and the fingerprint of the first model with digests of its weights
    folder/round_0/metrics.json   the first model: metric, costs, widths
    folder/round_1/plan.json      the edit of the round
    folder/round_1/model.keras    the model after fine-tuning, with the state of its optimizer
    folder/round_1/metrics.json   written last: without it, the round counts as not done

Files are written completely or not at all.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kerassurgery_fn.archive import read_model, write_model
from kerassurgery_fn.arguments import shortened
from kerassurgery_fn.documents.plan_algebra import concatenate
from kerassurgery_fn.documents.plan_files import MAX_BYTES, dumps, load_plan, loads, refuse_other_version, save_plan
from kerassurgery_fn.documents.preconditions import measured_in, with_measured
from kerassurgery_fn.documents.safe_files import on_disk, read_limited, write_atomically
from kerassurgery_fn.errors import BadDocument, BadFile, InexactCut, SurgeryError
from kerassurgery_fn.measure.model_pruning import compared_widths
from kerassurgery_fn.measure.run_settings import refuse_other_run, run_data
from kerassurgery_fn.pruning.pruning_rounds import Round, decode_round, encode_round
from kerassurgery_fn.values.snapshot import Snapshot

FORMAT, VERSION = "kerassurgery_fn pruning run", 1


@dataclass(frozen=True, eq=False)
class RoundFolder:
    """The folder of a run on a model.

    - `path`: the folder;
    - `first`: the first model.
    """

    path: Path
    first: Snapshot

    def rounds(self) -> list[Round]:
        """The rounds that are done.

        Raises:
            BadFile, BadDocument, UnknownVersion: a file is damaged, or a round is missing.
        """
        done = [number for number in self._numbers() if self._file(number, "metrics").exists()]
        rounds = []
        for number in done:
            with self._with_way_out(number):
                rounds.append(self._read(number))
        self._refuse_gaps(rounds)
        return rounds

    def model(self, number: int) -> Snapshot:
        """The model after a round."""
        if not number:
            return self.first
        with self._with_way_out(number):
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

    def _refuse_gaps(self, rounds: list[Round]) -> None:
        """Raises BadDocument if the plans of all rounds, applied to the first model, do not give the last widths."""
        if not any(each.plan is not None for each in rounds):
            return
        last = rounds[-1]
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", InexactCut)  # there was a warning when the round was done
                smaller = concatenate(*(each.plan for each in rounds if each.plan is not None))(self.first)
            widths = {name: after for name, (_, after) in compared_widths(self.first, smaller).items()}
        except SurgeryError:
            widths = {}
        if widths != dict(last.widths):
            raise BadDocument(
                f"the folder {str(self.path)!r} is incomplete: the plans of rounds "
                f"{', '.join(str(each.number) for each in rounds if each.number)} do not lead to the model of round "
                f"{last.number}. Give another folder, or put the missing rounds back"
            )

    @contextmanager
    def _with_way_out(self, number: int) -> Iterator[None]:
        """A scope in which an error about a damaged file says how to do its round again."""
        try:
            yield
        except (BadFile, BadDocument) as error:
            raise type(error)(
                f"{error}. To do round {number} again, delete the folder round_{number} and those of all later rounds"
            ) from error

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
        settings: all settings that the result depends on.

    Raises:
        OtherModel, BadValue: the folder is that of another model, or of other settings; the message names them.
        BadFile, BadDocument, UnknownVersion: it cannot be read or written.
    """
    path = Path(folder) / "run.json"
    if path.exists():
        data = loads(read_limited(path, MAX_BYTES), str(path))
        refuse_no_run(data, str(path))
        refuse_other_run(data, f"the folder {folder!r}", first, settings)
    else:
        with on_disk(path.parent, "written"):
            path.parent.mkdir(parents=True, exist_ok=True)
        document = {"format": FORMAT, "version": VERSION, **run_data(first, settings)}
        write_atomically(path, dumps(document).encode("utf-8"))
    return RoundFolder(Path(folder), first)


def refuse_no_run(data: Any, source: str) -> None:
    """Raises BadDocument or UnknownVersion if data is not the data of a run."""
    refuse_other_version(data, FORMAT, VERSION, "runs", source)
    match data:
        case {"format": str(form), "version": _} if form == FORMAT:
            return
    raise BadDocument(f"{source}: expected a run of iterative pruning, got {shortened(data)}")
