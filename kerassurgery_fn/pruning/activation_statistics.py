"""Statistics of the activations of channels that can be added up: moments, and ranks of feature maps.

Each value has arrays of shape (channels,). `a + b` is the statistics of the data of both. It is associative, and does
not depend on the order, to rounding: data can be measured in parts of any size, anywhere.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Moments:
    """The mean and the spread of the activations of each channel.

    - `values`: the number of values;
    - `mean`: their mean;
    - `deviations`: the sum of the squares of (value - mean);
    - `magnitudes`: the sum of the absolute values.

    >>> first, second = moments_of(np.array([[1.0, 0.0], [3.0, 0.0]])), moments_of(np.array([[-1.0, 3.0]]))
    >>> (first + second).mean_absolute, (first + second).variance
    (array([1.66666667, 1.        ]), array([2.66666667, 2.        ]))
    """

    values: np.ndarray
    mean: np.ndarray
    deviations: np.ndarray
    magnitudes: np.ndarray

    def __add__(self, other: Moments) -> Moments:
        """The moments of both. Chan et al. 1983, Algorithms for Computing the Sample Variance: no digits cancel."""
        values = self.values + other.values
        share = ratio(other.values, values)
        shift = other.mean - self.mean
        between = shift**2 * self.values * share
        return Moments(
            values, self.mean + shift * share, self.deviations + other.deviations + between,
            self.magnitudes + other.magnitudes,
        )  # fmt: skip

    @property
    def mean_absolute(self) -> np.ndarray:
        """The mean absolute value of each channel, shape (channels,)."""
        return ratio(self.magnitudes, self.values)

    @property
    def variance(self) -> np.ndarray:
        """The variance of each channel, shape (channels,)."""
        return ratio(self.deviations, self.values)


@dataclass(frozen=True, eq=False)
class MapRanks:
    """The ranks of the feature maps of each channel: `maps` is their number, `ranks` the sum of their ranks.

    >>> (MapRanks(np.array([2, 2]), np.array([3, 0])) + MapRanks(np.array([2, 2]), np.array([3, 2]))).mean_rank
    array([1.5, 0.5])
    """

    maps: np.ndarray
    ranks: np.ndarray

    def __add__(self, other: MapRanks) -> MapRanks:
        return MapRanks(self.maps + other.maps, self.ranks + other.ranks)

    @property
    def mean_rank(self) -> np.ndarray:
        """The mean rank of the maps of each channel, shape (channels,)."""
        return ratio(self.ranks, self.maps)


def ratio(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a / b; 0 for channels without values, whose b is 0."""
    return np.divide(a, b, out=np.zeros(np.shape(b)), where=b != 0)


def moments_of(activations: np.ndarray, axis: int = -1) -> Moments:
    """The moments of an array of activations of any rank, for each channel along `axis`."""
    rows = np.moveaxis(np.asarray(activations, np.float64), axis, -1)
    rows = rows.reshape(-1, rows.shape[-1])
    mean = rows.mean(axis=0) if len(rows) else np.zeros(rows.shape[1])
    return Moments(np.full(rows.shape[1], len(rows)), mean, ((rows - mean) ** 2).sum(axis=0), np.abs(rows).sum(axis=0))
