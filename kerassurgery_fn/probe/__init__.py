"""The door to running models: what their channels do on data."""

from kerassurgery_fn.probe.apoz import score_by_apoz

__all__ = ["score_by_apoz"]
