"""Immutable data: frozen trees, the Snapshot of a model, tables that print."""
