"""Writes the JSON Schemas of plans and differences. Run it when edits are added or changed."""

from kerassurgery_fn.differences.diff_files import DIFF
from kerassurgery_fn.documents.json_schema import PLAN, published

if __name__ == "__main__":
    for kind in (PLAN, DIFF):
        kind.path.write_text(published(kind), encoding="utf-8")
