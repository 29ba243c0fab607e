"""The spelling of a weight with a letter for each axis, as in `i>o`."""

from __future__ import annotations

from functools import cache


@cache
def summed_in(word: str) -> tuple[int, ...] | None:
    """The numbers of the axes that are summed over according to the spelling of a weight; None if it has no arrow.

    >>> summed_in("i>o"), summed_in("o<i"), summed_in(">im"), summed_in("2g"), summed_in("io")
    ((0,), (1,), (), (), None)
    """
    left, right = (len(part) for part in word.replace("<", ">").partition(">")[::2])
    if ">" in word:
        return tuple(range(left))
    if "<" in word:
        return tuple(range(left, left + right))
    return () if sum(map(str.isalpha, word)) < 2 else None


@cache
def spelling(word: str) -> tuple[bool, tuple[str | int, ...], tuple[int, ...] | None]:
    """A word that spells a weight: whether the axes in `space` come first, the letters and sizes of the other axes, and
    the numbers of those that are summed over.

    >>> spelling("..i>o"), spelling("2g")
    ((True, ('i', 'o'), (0,)), (False, (2, 'g'), ()))
    """
    rest = word.removeprefix("..")
    letters = tuple(int(c) if c.isdigit() else c for c in rest if c not in "<>")
    return rest != word, letters, summed_in(rest)
