"""Model files: `.keras` files read as snapshots and written from snapshots, without Keras."""

from kerassurgery_fn.archive.model_files import read_metadata, read_model, read_weights, write_model, write_weights

__all__ = ["read_metadata", "read_model", "read_weights", "write_model", "write_weights"]
