"""The settings and the model of a run, which are stored with it. A run can only be resumed with the same ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from toolz import valmap

from kerassurgery_fn.arguments import shortened
from kerassurgery_fn.documents.plan_files import dumps, loads
from kerassurgery_fn.documents.preconditions import Fingerprint, differences, fingerprint
from kerassurgery_fn.errors import BadDocument, BadValue, OtherModel
from kerassurgery_fn.values.snapshot import Snapshot

SHOWN = 4  # differences in an error
UNRECORDED = ("progress", "executor")  # settings that do not change the result


def run_data(model: Snapshot, settings: Mapping[str, Any]) -> dict[str, Any]:
    """What a run is written for, as JSON-ready data: `settings`, and `model`, a fingerprint with digests of weights."""
    prints = fingerprint(model, weights=True)
    layers = {path: [name, dict(counts), digest] for path, (name, counts, digest) in prints.layers.items()}
    return {"settings": described(settings), "model": {"layers": layers, "weights": dict(prints.weights)}}


def refuse_other_run(data: Any, what: str, model: Snapshot, settings: Mapping[str, Any]) -> None:
    """Raises an error if a run was written for another model or other settings.

    Args:
        data: what `run_data` returned.
        what: the place of the data in words, for errors.
        model: the model.
        settings: the settings.

    Raises:
        OtherModel: it was written for another model; the message names layers.
        BadValue: it was written for other settings; the message names them.
        BadDocument: the data is damaged.
    """
    try:
        saved, known = Fingerprint(valmap(tuple, data["model"]["layers"]), data["model"]["weights"]), data["settings"]
        listed = list(differences(saved, fingerprint(model, weights=True)))
        others = other_settings(known, described(settings))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BadDocument(f"{what} does not say of which model and settings it is") from error
    if listed:
        more = f"; and {len(listed) - SHOWN} more" if len(listed) > SHOWN else ""
        raise OtherModel(
            f"{what} is of another model than {model.name!r}: {'; '.join(listed[:SHOWN])}{more}. Give another path, or "
            "the model as it was at the start"
        )
    if others:
        raise BadValue(
            f"{what} is of other settings: {', '.join(others[:SHOWN])}. Give another path, or the same settings to "
            "resume it"
        )


def other_settings(saved: Mapping[str, Any], settings: Mapping[str, Any]) -> list[str]:
    """The settings that differ, in words.

    >>> other_settings({"rounds": 3, "macs": 0.5}, {"rounds": 4, "macs": 0.5})
    ['rounds=3 instead of 4']
    """
    now = loads(dumps(dict(settings)).encode("utf-8"), "settings")  # as JSON gives them back
    names = [name for name in {**saved, **now} if saved.get(name) != now.get(name)]
    return [f"{name}={shortened(saved.get(name))} instead of {shortened(now.get(name))}" for name in names]


def described(value: Any) -> Any:
    """A setting as JSON-ready data: names in place of functions and layers.

    >>> described({"schedule": np.mean, "ratios": {"a": np.float64(0.5)}, "ignore": ("a", "b"), "progress": True})
    {'schedule': 'mean', 'ratios': {'a': 0.5}, 'ignore': ['a', 'b']}
    """
    if isinstance(value, Mapping):
        return {str(key): described(item) for key, item in value.items() if key not in UNRECORDED}
    if isinstance(value, list | tuple | set | frozenset):
        return [described(item) for item in value]
    if isinstance(value, np.generic):
        return value.item()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    names = (getattr(value, name, None) for name in ("__name__", "name"))
    return next((name for name in names if isinstance(name, str)), type(value).__name__)
