"""Reads the equations of einsums."""

from __future__ import annotations

from collections.abc import Sequence


def letters_of(equation: str, ranks: Sequence[int | None]) -> list[list[str]]:
    """The letters of an einsum: a list for each operand, then a list for the output.

    An ellipsis becomes several letters (`...1`, `...0`), so that each axis of the operand has a letter. If the rank of
    an operand is None, its ellipsis has no axes.

    >>> letters_of("...x,xy->...y", [3, None])
    [['...1', '...0', 'x'], ['x', 'y'], ['...1', '...0', 'y']]
    >>> letters_of("ij,jk", [2, 2])
    [['i', 'j'], ['j', 'k'], ['i', 'k']]
    """
    left, arrow, right = equation.replace(" ", "").partition("->")
    words = left.split(",")
    if not arrow:
        once = sorted(c for c in set(left) - {",", "."} if left.count(c) == 1)
        right = ("..." if "..." in left else "") + "".join(once)
    spans = [
        0 if rank is None else rank - len(word.replace("...", "")) for word, rank in zip(words, ranks, strict=True)
    ]
    return [_spelled(word, span) for word, span in zip([*words, right], [*spans, max(spans)], strict=True)]


def _spelled(word: str, span: int) -> list[str]:
    before, dots, after = word.partition("...")
    return [*before, *(f"...{i}" for i in range(span - 1, -1, -1) if dots), *after]
