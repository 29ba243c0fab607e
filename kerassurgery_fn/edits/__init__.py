"""The edits, one family a file: frozen dataclasses that are functions from snapshot to snapshot."""

from kerassurgery_fn.edits.base import EDITS, Edit
from kerassurgery_fn.edits.channels import DeleteChannels, KeepChannels

__all__ = ["EDITS", "DeleteChannels", "Edit", "KeepChannels"]
