"""Model files: `.keras` files read as snapshots and written from snapshots, without Keras."""

from kerassurgery_fn.archive.model_files import read_metadata, read_model, write_model

__all__ = ["read_metadata", "read_model", "write_model"]
