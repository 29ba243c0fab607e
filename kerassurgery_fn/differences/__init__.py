"""Differences between models as data: `patch(a, diff(a, b)) == b`. Only values that `a` does not have are stored."""

from kerassurgery_fn.differences.changes import Picks, Stored, Trained
from kerassurgery_fn.differences.comparing import diff
from kerassurgery_fn.differences.diff_files import decode_diff, encode_diff, load_diff, save_diff
from kerassurgery_fn.differences.difference import Diff
from kerassurgery_fn.differences.patching import patch

__all__ = [
    "Diff", "Picks", "Stored", "Trained", "decode_diff", "diff", "encode_diff", "load_diff", "patch", "save_diff",
]  # fmt: skip
