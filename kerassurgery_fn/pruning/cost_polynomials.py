"""Costs as polynomials of widths: numbers that remember how they depend on the widths of groups.

The cost of a layer is a sum of products of the sizes of its axes, and the size of an axis is a sum of products of the
widths of the groups on it:

    kernel of conv_2: 3 * 3 * (width of conv_1) * (width of conv_2)

A `Size` is an int that has its polynomial beside its value. The functions that count the cost of a model are called
with such sizes once; from then on the cost for any widths is arithmetic on a few arrays.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

Terms = dict[tuple[int, ...], int]  # the numbers of the variables in a product, sorted -> its coefficient


class Size(int):
    """An int with the polynomial that it is a value of.

    Sums, differences and products of sizes are sizes. Anything else gives a plain int, whose dependence on the widths
    is lost; the planner compares the polynomial with the cost itself before it relies on it.

    >>> a, b = Size(4, {(0,): 1}), Size(6, {(1,): 2})
    >>> product = 9 * a * b + a
    >>> product, product.terms
    (220, {(0, 1): 18, (0,): 1})
    """

    terms: Terms

    def __new__(cls, value: int, terms: Terms) -> Size:
        size = super().__new__(cls, value)
        size.terms = terms
        return size

    def __add__(self, other: Any) -> Any:
        return _added(self, other, 1) if isinstance(other, int) else NotImplemented

    def __sub__(self, other: Any) -> Any:
        return _added(self, other, -1) if isinstance(other, int) else NotImplemented

    def __rsub__(self, other: Any) -> Any:
        return _added(other, self, -1) if isinstance(other, int) else NotImplemented

    def __mul__(self, other: Any) -> Any:
        return _multiplied(self, other) if isinstance(other, int) else NotImplemented

    def __floordiv__(self, other: Any) -> Any:
        """Exact for a number that divides all coefficients, such as the size of the batch."""
        exact = not isinstance(other, Size) and all(coefficient % other == 0 for coefficient in self.terms.values())
        if not exact:
            return int(self) // int(other)
        return Size(int(self) // other, {key: coefficient // other for key, coefficient in self.terms.items()})

    __radd__ = __add__
    __rmul__ = __mul__


def terms_of(number: int) -> Terms:
    """The terms of a size, or of a constant.

    >>> terms_of(3), terms_of(0)
    ({(): 3}, {})
    """
    if isinstance(number, Size):
        return number.terms
    return {(): int(number)} if number else {}


def sum_of(polynomials: Iterable[Mapping[tuple[int, ...], int]]) -> Terms:
    """The terms of a sum.

    >>> sum_of([{(0,): 1, (): 2}, {(0,): 3}])
    {(0,): 4, (): 2}
    """
    total: Terms = {}
    for terms in polynomials:
        for key, coefficient in terms.items():
            total[key] = total.get(key, 0) + coefficient
    return total


def _added(a: int, b: int, sign: int) -> Size:
    terms = dict(terms_of(a))
    for key, coefficient in terms_of(b).items():
        terms[key] = terms.get(key, 0) + sign * coefficient
    return Size(int(a) + sign * int(b), terms)


def _multiplied(a: int, b: int) -> Size:
    terms: Terms = {}
    for left, first in terms_of(a).items():
        for right, second in terms_of(b).items():
            key = tuple(sorted(left + right)) if left and right else left or right
            terms[key] = terms.get(key, 0) + first * second
    return Size(int(a) * int(b), terms)


class Polynomials:
    """Several polynomials of the same variables, evaluated at once.

    >>> both = Polynomials([{(0, 1): 2, (): 5}, {}, {(1,): 3}])
    >>> both(np.array([10, 20]))
    array([405,   0,  60])
    >>> both.slopes(np.array([10, 20]))
    array([[40, 20],
           [ 0,  0],
           [ 0,  3]])
    """

    def __init__(self, polynomials: Sequence[Mapping[tuple[int, ...], int]]) -> None:
        rows = [dict(terms) or {(): 0} for terms in polynomials]  # every polynomial has a term
        keys = [key for terms in rows for key in terms]
        degree = max(map(len, keys), default=0)
        # Variable 0 is the constant 1, which fills up products of fewer variables.
        padded = [[*(variable + 1 for variable in key), *[0] * (degree - len(key))] for key in keys]
        self.variables = np.array(padded, int).reshape(len(keys), degree)
        self.coefficients = np.array([n for terms in rows for n in terms.values()], np.int64)
        self.rows = np.repeat(np.arange(len(rows)), [len(terms) for terms in rows])
        self.starts = np.searchsorted(self.rows, np.arange(len(rows)))

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """The values of the polynomials, int64, shape (polynomials,)."""
        if not len(self.starts):
            return np.zeros(0, np.int64)
        factors = np.concatenate([[1], values])[self.variables]
        return np.add.reduceat(self.coefficients * factors.prod(axis=1, dtype=np.int64), self.starts)

    def slopes(self, values: np.ndarray) -> np.ndarray:
        """The partial derivatives, int64, shape (polynomials, variables)."""
        factors = np.concatenate([[1], values])[self.variables]
        slopes = np.zeros((len(self.starts), len(values) + 1), np.int64)
        for place in range(self.variables.shape[1]):
            others = np.delete(factors, place, axis=1).prod(axis=1, dtype=np.int64)
            np.add.at(slopes, (self.rows, self.variables[:, place]), self.coefficients * others)
        return slopes[:, 1:]
