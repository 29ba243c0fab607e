"""The published JSON Schemas of plans and of differences.

`python -m kerassurgery_fn.differences.publish_schemas` writes them.
"""
