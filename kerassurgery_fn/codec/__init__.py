"""Edits and plans as documents: JSON that can be read, reviewed, compared, and made into the same edits again."""

from kerassurgery_fn.codec.documents import decode, encode, load_plan, save_plan
from kerassurgery_fn.codec.schema import schema

__all__ = ["decode", "encode", "load_plan", "save_plan", "schema"]
