"""Finds the layers that read the same integers and have a row or a position for each value.

    tokens ---+--- Embedding 'words'         a row for each value
              +--- CategoryEncoding 'bag'    a position for each value, and a row in the kernel after it
              +--- NotEqual(0)               compares the values with 0, so the first value must stay the first

If the values of an integer input get new numbers, all layers that read them must change. A lookup layer creates such
values: the numbers of its words.
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

    - `rows`: the layers that have a row or a position for each value;
    - `first`: path of a layer that compares the values with a number -> how many of the first values must therefore
      stay;
    - `readers`: the paths of layers that compute with the values.
    """

    rows: frozenset[Rows]
    first: Mapping[str, int] = field(default_factory=dict)
    readers: tuple[str, ...] = ()


def vocabulary_of(trace: Trace, rows: Iterable[Rows]) -> Vocabulary:
    """The vocabulary of some layers with rows, including all other layers that share it.

    The layers are found in rounds: from layers to the sources of their values, and from these sources to all layers
    that read them. Each round adds a source or a layer, or is the last one.
    """
    reads = [*_reads(trace)]
    shared, sources = {*rows}, set[str]()
    while True:
        new_sources = set(concat(origins for reader, origins, _ in reads if reader in shared))
        readers = {reader for reader, origins, _ in reads if isinstance(reader, tuple) and origins & new_sources}
        if new_sources <= sources and readers <= shared:
            break
        sources |= new_sources
        shared |= readers
    others = [(reader, first) for reader, origins, first in reads if isinstance(reader, str) and origins & sources]
    inputs = {ref.path for ref in trace.inputs}
    sharing = {path for path, _ in shared}
    computed = [*(reader for reader, first in others if first is None), *sorted(sources - inputs - sharing)]
    return Vocabulary(
        frozenset(shared), {reader: first for reader, first in others if first is not None}, tuple(computed)
    )


def _reads(trace: Trace) -> Iterator[tuple[Rows | str, frozenset[str], int | None]]:
    """For each call that uses values: the rows of its layer, or the path of a layer without rows; the layers from which
    the values come; and how many of the first values must stay, None if all must stay."""
    origins: dict[Ref, frozenset[str]] = {}
    inputs = {*trace.inputs}

    def of(tensors: Iterable[Ref]) -> frozenset[str]:
        return frozenset(concat(origins.get(ref, origins.get(ref._replace(output=0), frozenset())) for ref in tensors))

    for call in trace.calls:
        rule, read, output = rule_for(call.record), refs([call.args, call.kwargs]), Ref(call.path, call.node, 0)
        use = use_of_values(rule)
        origins[output] = of(read) if use == "kept" and output not in inputs else frozenset([call.path])
        if use == "made":
            yield (call.path, rule.rows), origins[output], None
            yield call.path, of(read), None
        elif rule.rows and not is_reversed(call):
            yield (call.path, rule.rows), of(refs([call.args[:1]]) or read), None
        elif use == "compared":
            yield call.path, of(read), compared(call)
        elif use == "computed" and output not in inputs and not rule.rows:
            yield call.path, of(read), None
    for ref in trace.outputs:
        yield ref.path, of([ref]), None


def use_of_values(rule: Rule) -> str:
    """What a class does with the values that it reads, see `Rule.values`. They are `kept` if the class only moves them,
    and otherwise `computed`."""
    moves = rule.dtype in ("moved", "input") or rule.merges == "joins"
    return rule.values or ("kept" if moves else "computed")


def is_reversed(call: Call) -> bool:
    """Whether a call of an embedding reads vectors and computes a score for each value."""
    return call.kwargs.get("reverse") is True or True in call.args[1:]


def compared(call: Call) -> int | None:
    """How many of the first values must stay because of a comparison: n + 1 for a comparison with the number n. None if
    the values are compared with something else."""
    numbers = [arg for arg in [*call.args, *call.kwargs.values()] if is_number(arg)]
    return int(numbers[0]) + 1 if len(numbers) == 1 and numbers[0] >= 0 else None


def is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
