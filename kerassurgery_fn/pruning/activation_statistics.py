"""Statistics of the activations of channels that can be added up: moments, and ranks of feature maps.

`a + b` is the statistics of the data of both. It is associative, and does not depend on the order, to rounding: data
can be measured in parts of any size, anywhere.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Moments:
    """The mean and the spread of the activations of each channel, arrays of shape (channels,).

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


RANKED = 500  # more samples do not change a mean rank much: the number that the paper of HRank takes
LEVELS = 20  # enough for 262 million samples


@dataclass(frozen=True, eq=False)
class MapRanks:
    """The ranks of the feature maps of each channel, of a selection of the samples: 250 to 500 of them, all if there
    are at most 500.

    Each sample has a level, which follows from its content: half of all samples have level 0, a quarter level 1, an
    eighth level 2, and so on. The more samples there are, the higher is the lowest level that counts. So the selection
    does not depend on how the data is split.

        samples             1 to 500   501 to 1,000   1,001 to 2,000
        levels that count        all    1 and above      2 and above

    - `samples`: the number of samples, shape (channels,);
    - `maps`: the number of maps that were ranked, by level, shape (channels, levels);
    - `ranks`: the sum of their ranks, by level, shape (channels, levels).

    >>> first = ranks_of(np.array([[3, 0], [2, 1]]), np.array([0, 1]), samples=400)
    >>> first.mean_rank
    array([2.5, 0.5])
    >>> (first + ranks_of(np.array([[4, 3]]), np.array([2]), samples=400)).mean_rank  # level 0 no longer counts
    array([3., 2.])
    """

    samples: np.ndarray
    maps: np.ndarray
    ranks: np.ndarray

    def __add__(self, other: MapRanks) -> MapRanks:
        samples, maps = self.samples + other.samples, self.maps + other.maps
        counts = _levels_that_count(samples, maps)
        return MapRanks(samples, maps * counts, (self.ranks + other.ranks) * counts)

    @property
    def mean_rank(self) -> np.ndarray:
        """The mean rank of the maps of each channel, shape (channels,)."""
        return ratio(self.ranks.sum(axis=-1), self.maps.sum(axis=-1))


def ranks_of(ranks: np.ndarray, levels: np.ndarray, samples: int) -> MapRanks:
    """The statistics of ranked samples.

    Args:
        ranks: the rank of each map, shape (ranked samples, channels).
        levels: the level of each of these samples, shape (ranked samples,).
        samples: the number of samples from which they were selected.
    """
    by_level = np.equal.outer(levels, np.arange(LEVELS)).astype(np.int64)
    channels = np.shape(ranks)[1]
    return MapRanks(np.full(channels, samples), np.tile(by_level.sum(axis=0), (channels, 1)), ranks.T @ by_level)


def levels_of(seeds: np.ndarray) -> np.ndarray:
    """The level of each sample: the number of zero bits in front of a random number of 32 bits.

    >>> levels_of(np.array([2**32 - 1, 2**31 - 1, 2**30 - 1, 0], np.uint32)).tolist()
    [0, 1, 2, 19]
    """
    return np.minimum(32 - np.frexp(seeds)[1], LEVELS - 1)


def lowest_level(samples: np.ndarray | int) -> np.ndarray:
    """The lowest level that counts among a number of samples.

    >>> lowest_level(np.array([0, 500, 501, 1000, 1001])).tolist()
    [0, 0, 1, 1, 2]
    """
    return np.minimum(np.frexp(np.maximum(np.asarray(samples) - 1, 0) // RANKED)[1], LEVELS - 1)


def _levels_that_count(samples: np.ndarray, maps: np.ndarray) -> np.ndarray:
    """Whether each level counts, for each channel. The highest level counts always, for data of equal samples."""
    highest = LEVELS - 1 - np.argmax(maps[:, ::-1] > 0, axis=1)
    return np.greater_equal.outer(np.arange(LEVELS), np.minimum(lowest_level(samples), highest)).T


def ratio(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a / b; 0 for channels without values, whose b is 0."""
    return np.divide(a, b, out=np.zeros(np.shape(b)), where=b != 0)


def moments_of(activations: np.ndarray, axis: int = -1) -> Moments:
    """The moments of an array of activations of any rank, for each channel along `axis`."""
    rows = np.moveaxis(np.asarray(activations, np.float64), axis, -1)
    rows = rows.reshape(-1, rows.shape[-1])
    mean = rows.mean(axis=0) if len(rows) else np.zeros(rows.shape[1])
    return Moments(np.full(rows.shape[1], len(rows)), mean, ((rows - mean) ** 2).sum(axis=0), np.abs(rows).sum(axis=0))
