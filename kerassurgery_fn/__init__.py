"""Surgery on trained Keras models, as pure functions.

A model is a value: `capture` takes it, edits are functions on it, `rebuild` makes a model of it again.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kerassurgery_fn.costs import cost
    from kerassurgery_fn.coupling import groups
    from kerassurgery_fn.edits import DeleteChannels, KeepChannels
    from kerassurgery_fn.errors import SurgeryError
    from kerassurgery_fn.flow import analyse
    from kerassurgery_fn.live import capture, rebuild
    from kerassurgery_fn.plan import Plan
    from kerassurgery_fn.probe import score_by_apoz
    from kerassurgery_fn.rules import rule
    from kerassurgery_fn.snapshot import Snapshot

__version__ = "0.1.0"

_ROOMS = {
    "DeleteChannels": "edits",
    "KeepChannels": "edits",
    "Plan": "plan",
    "Snapshot": "snapshot",
    "SurgeryError": "errors",
    "analyse": "flow",
    "capture": "live",
    "cost": "costs",
    "groups": "coupling",
    "rebuild": "live",
    "rule": "rules",
    "score_by_apoz": "probe",
}

__all__ = [
    "DeleteChannels", "KeepChannels", "Plan", "Snapshot", "SurgeryError", "analyse", "capture", "cost", "groups",
    "rebuild", "rule", "score_by_apoz",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    """The object of that name, out of its room: rooms are opened when they are first asked for."""
    if name not in _ROOMS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_ROOMS[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
