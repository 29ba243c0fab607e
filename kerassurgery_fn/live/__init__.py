"""The door to live models: `capture` makes a snapshot of one, `rebuild` makes one of a snapshot."""

from kerassurgery_fn.live.capturing import capture
from kerassurgery_fn.live.rebuilding import rebuild

__all__ = ["capture", "rebuild"]
