"""Publishes the schemas anew; to be run when edits come or change."""

from kerassurgery_fn.codec.schema import PLAN, published
from kerassurgery_fn.differences.files import DIFF

if __name__ == "__main__":
    for kind in (PLAN, DIFF):
        kind.path.write_text(published(kind), encoding="utf-8")
