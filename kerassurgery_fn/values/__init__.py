"""Immutable data: frozen dicts and lists, the snapshot of a model, printable tables."""
