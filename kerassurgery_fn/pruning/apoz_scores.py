"""Average Percentage of Zeros (APoZ): how often the activation of a channel is exactly zero.

From H. Hu, R. Peng, Y.-W. Tai, C.-K. Tang: Network Trimming: A Data-Driven Neuron Pruning Approach towards Efficient
Deep Architectures, 2016, arXiv:1607.03250. APoZ is a fraction from 0 to 1 here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from kerassurgery_fn.errors import SurgeryError


@dataclass(frozen=True, eq=False)
class ZeroCounts:
    """The number of zeros and the number of all values of each channel, integers of shape (channels,).

    `+` adds the counts of several batches.

    >>> first, second = count_zeros(np.array([[0, 1], [0, 0]])), count_zeros(np.array([[5, 0]]))
    >>> first + second
    ZeroCounts(zeros=array([2, 2]), values=array([3, 3]))
    >>> (first + second).apoz
    array([0.66666667, 0.66666667])
    """

    zeros: np.ndarray
    values: np.ndarray

    def __add__(self, other: ZeroCounts) -> ZeroCounts:
        return ZeroCounts(self.zeros + other.zeros, self.values + other.values)

    @property
    def apoz(self) -> np.ndarray:
        """The fraction of zeros of each channel, float64, shape (channels,); NaN for a channel without values."""
        no_values = np.full(self.zeros.shape, np.nan)
        return np.divide(self.zeros, self.values, out=no_values, where=self.values > 0)


def count_zeros(activations: Any, axis: int = -1) -> ZeroCounts:
    """The counts of exact zeros in an array of activations of any rank, for each channel along `axis`.

    >>> count_zeros(np.zeros((32, 3, 8, 8)), axis=1)
    ZeroCounts(zeros=array([2048, 2048, 2048]), values=array([2048, 2048, 2048]))
    """
    rows = np.moveaxis(np.asarray(activations), axis, -1)
    rows = rows.reshape(-1, rows.shape[-1])
    return ZeroCounts((rows == 0).sum(axis=0), np.full(rows.shape[1], len(rows)))


def high_apoz(apoz: Any, method: str = "std", cutoff_std: float = 1, cutoff_absolute: float = 0.99) -> np.ndarray:
    """The indices of the channels with an APoZ of at least a cutoff, in ascending order.

    Args:
        apoz: the fraction of zeros of each channel, shape (channels,).
        method: `std`: the cutoff is the mean plus `cutoff_std` standard deviations. `absolute`: the cutoff is
            `cutoff_absolute`. `both`: the smaller of the two. A cutoff above 1 is taken as 1.
        cutoff_std: a number of standard deviations of `apoz`. If all channels have the same APoZ, no channel reaches
            this cutoff.
        cutoff_absolute: a fraction.

    Raises:
        SurgeryError: the method is unknown, or an argument is not a number.

    >>> high_apoz([0.1, 0.2, 0.1, 0.9]), high_apoz([0.5, 0.5]), high_apoz([0.5, 1], "absolute")
    (array([3]), array([], dtype=int64), array([1]))
    """
    if not isinstance(method, str) or method not in CUTOFFS:
        raise SurgeryError(f"unknown method {method!r}; the methods are {', '.join(CUTOFFS)}")
    try:
        apoz = np.asarray(apoz, float)
    except (TypeError, ValueError):
        apoz = np.array(np.nan)
    if apoz.ndim != 1 or np.isnan(apoz).any():
        raise SurgeryError("apoz must be a one-dimensional array with a number for each channel, as from get_apoz")
    _check_number("cutoff_std", cutoff_std)
    _check_number("cutoff_absolute", cutoff_absolute)
    return np.flatnonzero(apoz >= CUTOFFS[method](apoz, cutoff_std, cutoff_absolute))


def _check_number(name: str, value: Any) -> None:
    if not isinstance(value, (int, float, np.number)):
        raise SurgeryError(f"{name} must be a number, not {value!r}")


def _std(apoz: np.ndarray, deviations: float) -> float:
    """The cutoff of the method `std`; infinite if all values are equal."""
    spread = apoz.size and np.ptp(apoz) > 0
    return min(apoz.mean() + deviations * apoz.std(), 1.0) if spread else np.inf


CUTOFFS: dict[str, Callable[[np.ndarray, float, float], float]] = {
    "std": lambda apoz, deviations, absolute: _std(apoz, deviations),
    "absolute": lambda apoz, deviations, absolute: min(absolute, 1.0),
    "both": lambda apoz, deviations, absolute: min(_std(apoz, deviations), absolute, 1.0),
}
