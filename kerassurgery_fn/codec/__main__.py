"""Publishes the schema of plans anew; to be run when edits come or change."""

from kerassurgery_fn.codec.schema import PATH, published

if __name__ == "__main__":
    PATH.write_text(published(), encoding="utf-8")
