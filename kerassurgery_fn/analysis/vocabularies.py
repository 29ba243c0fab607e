"""Vocabularies: the layers that read the same integers, and have a row or a position for each value.

    tokens ---+--- Embedding 'words'         a row for each value
              +--- CategoryEncoding 'bag'    a position for each value, and the kernel behind it has a row
              +--- NotEqual(0)               compares the values: the first one must stay the first

Where values of an integer input are numbered anew, all that read them change. A lookup layer makes the values: they are
the numbers of its words.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from toolz import concat

from kerassurgery_fn.graph import Call, Ref, Trace, refs
from kerassurgery_fn.rules.registry import RULES, rule_for
from kerassurgery_fn.rules.rule_fields import Rule

Rows = tuple[str, str]  # the path of a layer, and the config field that counts its rows


def row_kinds() -> set[str]:
    """The config fields that count rows."""
    return {rule.rows for rule in RULES.values() if rule.rows}


@dataclass(frozen=True)
class Vocabulary:
    """Layers that read the same integers.

    - `rows`: those that have a row or a position for each value;
    - `first`: how many of the first values other layers tell from the others, and so must stay; by the layers' paths;
    - `readers`: the paths of layers that compute with the values.
    """

    rows: frozenset[Rows]
    first: Mapping[str, int] = field(default_factory=dict)
    readers: tuple[str, ...] = ()


def vocabulary_of(trace: Trace, rows: Iterable[Rows]) -> Vocabulary:
    """The vocabulary of some layers with rows, and all that shares it."""
    reads = [*_reads(trace)]
    shared, sources = {*rows}, set[str]()
    while True:
        found = set(concat(origins for reader, origins, _ in reads if reader in shared))
        more = {reader for reader, origins, _ in reads if isinstance(reader, tuple) and origins & found}
        if found <= sources and more <= shared:
            break
        sources |= found
        shared |= more
    others = [(reader, first) for reader, origins, first in reads if isinstance(reader, str) and origins & sources]
    inputs = {ref.path for ref in trace.inputs}
    makers = {path for path, _ in shared}
    computed = [*(reader for reader, first in others if first is None), *sorted(sources - inputs - makers)]
    return Vocabulary(
        frozenset(shared), {reader: first for reader, first in others if first is not None}, tuple(computed)
    )


def _reads(trace: Trace) -> Iterator[tuple[Rows | str, frozenset[str], int | None]]:
    """For each call that uses values: the rows of the layer or its path, the layers that make the values, and how many
    of the first values it tells from the others, None if all."""
    origins: dict[Ref, frozenset[str]] = {}
    inputs = {*trace.inputs}

    def of(tensors: Iterable[Ref]) -> frozenset[str]:
        return frozenset(concat(origins.get(ref, origins.get(ref._replace(output=0), frozenset())) for ref in tensors))

    for call in trace.calls:
        rule, read, made = rule_for(call.record), refs([call.args, call.kwargs]), Ref(call.path, call.node, 0)
        use = use_of_values(rule)
        origins[made] = of(read) if use == "kept" and made not in inputs else frozenset([call.path])
        if use == "made":
            yield (call.path, rule.rows), origins[made], None
            yield call.path, of(read), None
        elif rule.rows and not is_reversed(call):
            yield (call.path, rule.rows), of(refs([call.args[:1]]) or read), None
        elif use == "compared":
            yield call.path, of(read), compared(call)
        elif use == "computed" and made not in inputs and not rule.rows:
            yield call.path, of(read), None
    for ref in trace.outputs:
        yield ref.path, of([ref]), None


def use_of_values(rule: Rule) -> str:
    """What a class does with the values that it reads: they are `kept` where it only moves them."""
    moves = rule.dtype in ("moved", "input") or rule.merges == "joins"
    return rule.values or ("kept" if moves else "computed")


def is_reversed(call: Call) -> bool:
    """Whether a call of an embedding reads vectors, and gives a score for each value."""
    return call.kwargs.get("reverse") is True or True in call.args[1:]


def compared(call: Call) -> int | None:
    """How many of the first values a comparison tells from the others; None if it compares with other than a number."""
    numbers = [arg for arg in [*call.args, *call.kwargs.values()] if is_number(arg)]
    return int(numbers[0]) + 1 if len(numbers) == 1 and numbers[0] >= 0 else None


def is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
