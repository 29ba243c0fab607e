"""Changes of the records of many layers at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from kerassurgery_fn.edits.steps.draft import Draft, parted
from kerassurgery_fn.graph import Record, with_layers


def with_records(draft: Draft, records: Mapping[str, Record]) -> Draft:
    """The draft with other records for some layers: path -> record. The graph of each model is copied once."""
    by_scope: dict[str, dict[str, Record]] = {}
    for path, record in records.items():
        scope, key = parted(path)
        by_scope.setdefault(scope, {})[key] = record
    graphs = {scope: with_layers(draft.graph(scope), layers) for scope, layers in by_scope.items()}
    return replace(draft, graphs={**draft.graphs, **graphs})
