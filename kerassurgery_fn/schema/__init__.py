"""The published JSON Schemas: of plans, and of differences. `python -m kerassurgery_fn.schema` writes them anew."""
