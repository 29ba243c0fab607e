"""Criteria on the inputs of layers: the channels that can be replaced or left out with the smallest error score low.

The error is that of the outputs of the layers that sum over the channels. With A the mean products of the channels in a
layer's input, shape (channels, channels), and W the layer's values for each channel, leaving out the channels T costs

    sum over c, d in T of A[c, d] * (W[c] . W[d])

Positions of a kernel count as uncorrelated. Errors are shares of the whole output, so that layers can be compared.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from kerassurgery_fn.errors import BadScores
from kerassurgery_fn.pruning.criterion_registry import criterion
from kerassurgery_fn.pruning.group_weights import GroupWeights
from kerassurgery_fn.pruning.summed_arrays import SummedArrays, input_name

RIDGE = 1e-6  # of the mean product of a channel with itself: more than the rounding of products in 32 bits


@criterion("thinet", needs="products of inputs", normalisation="mean")
def thinet(group: GroupWeights, *, statistics: SummedArrays) -> np.ndarray | None:
    """The error when the channel and all channels with lower scores are left out, without any reconstruction.

    Channels are left out greedily, each time the one that adds least to the error. Luo et al. 2017, ThiNet: A Filter
    Level Pruning Method for Deep Neural Network Compression, arXiv:1707.06342, section 3.2.

    Args:
        group: the channels.
        statistics: the products of inputs.

    Returns:
        Shape (channels,). None if no layer sums over the channels.
    """
    return of_readers(group, statistics, errors_left_out)


@criterion("least_squares", needs="products of inputs", normalisation="mean")
def least_squares(group: GroupWeights, *, statistics: SummedArrays) -> np.ndarray | None:
    """The error when the channel and all channels with lower scores are replaced by combinations of the others.

    The combinations are those of least squares, as `prune(..., reconstruct=True)` makes them. Channels are replaced
    greedily, each time the one that adds least to the error: |w[c]| ** 2 / P[c, c] with P the inverse of A, as in
    Hassibi and Stork 1992, Optimal Brain Surgeon. He et al. 2017, Channel Pruning for Accelerating Very Deep Neural
    Networks, arXiv:1707.06168, select channels for the same error by a lasso.

    Args, returns: as for `thinet`.
    """
    return of_readers(group, statistics, errors_replaced)


Pairs = list[tuple[np.ndarray, np.ndarray]]  # for each layer that reads the channels: A, and W @ W.T


def of_readers(
    group: GroupWeights, statistics: SummedArrays, errors: Callable[[Pairs], np.ndarray]
) -> np.ndarray | None:
    """A function of the inputs and weights of the layers that sum over the channels; None without such layers."""
    pairs = [normalised(*pair) for pair in _pairs(group, statistics)]
    return errors(pairs) if pairs else None


def _pairs(group: GroupWeights, statistics: SummedArrays) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for member in group.members:
        if member.role == "input" and (name := input_name(member.path, group.name)) in statistics:
            products = mean_products(statistics, name)
            if len(products) != len(group):
                raise BadScores(
                    f"the statistics are of another model: they have {len(products)} channels of {group.name!r}, and "
                    f"the model has {len(group)}"
                )
            yield products, member.dot_products()


def mean_products(statistics: SummedArrays, name: str) -> np.ndarray:
    """The mean product of each two channels in an input, float64, shape (channels, channels)."""
    count, sums = statistics[name]
    return sums / max(1, int(count))


def normalised(products: np.ndarray, dots: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The same with dots scaled so that the whole output of the layer is 1."""
    energy = (products * dots).sum()
    return products, dots / energy if energy > 0 else np.zeros_like(dots)


def errors_left_out(pairs: Pairs) -> np.ndarray:
    """The error at which each channel is left out, in the order in which it adds least; shape (channels,).

    >>> errors_left_out([(np.eye(3), np.diag([4.0, 1.0, 2.0]))])
    array([7., 1., 3.])
    """
    costs = np.mean([products * dots for products, dots in pairs], axis=0)
    added, order, errors = np.diagonal(costs).copy(), [], []
    for _ in range(len(costs)):
        channel = int(np.argmin(added))
        order.append(channel)
        errors.append(added[channel])
        added += 2 * costs[channel]
        added[channel] = np.inf
    return in_order(order, np.cumsum(errors))


def errors_replaced(pairs: Pairs) -> np.ndarray:
    """The error at which each channel is replaced, in the order in which it adds least; shape (channels,).

    >>> errors_replaced([(np.eye(3), np.diag([4.0, 1.0, 2.0]))]).round(4)
    array([7., 1., 3.])
    """
    readers = [Elimination(products, dots) for products, dots in pairs]
    order, errors = [], []
    for _ in range(len(pairs[0][0])):
        costs = np.mean([reader.costs() for reader in readers], axis=0)
        channel = int(np.argmin(costs))
        order.append(channel)
        errors.append(costs[channel])
        for reader in readers:
            reader.replace(channel)
    return in_order(order, np.cumsum(errors))


class Elimination:
    """The channels that one layer reads. They are replaced one by one by combinations of the remaining channels.

    With P the inverse of A, and D = W @ W.T, replacing channel c adds D[c, c] / P[c, c] to the error. W[c] is spread
    over the others by s = P[c] / P[c, c], and P loses the row and column of c:

        P becomes  P - s P[c].T
        D becomes  D - s r.T - r s.T   with r = D[c] - D[c, c] / 2 * s

    These changes are collected as columns and made for many channels at once, as a product of matrices; then the rows
    of replaced channels are dropped. The diagonals, which the costs need, are always up to date.
    """

    COLUMNS = 64

    def __init__(self, products: np.ndarray, dots: np.ndarray) -> None:
        self.p, self.d = inverse(products), dots
        self.width = len(dots)
        self.start(np.arange(self.width), np.diagonal(self.p).copy(), np.diagonal(dots).copy())

    def start(self, channels: np.ndarray, diagonal_p: np.ndarray, diagonal_d: np.ndarray) -> None:
        """Begins a collection. `channels` are those of the rows."""
        self.channels, self.diagonal_p, self.diagonal_d = channels, diagonal_p, diagonal_d
        self.left = np.ones(len(channels), bool)
        self.s, self.q, self.r = (np.empty((len(channels), self.COLUMNS)) for _ in range(3))  # q: the rows P[c]
        self.collected = 0

    def costs(self) -> np.ndarray:
        """The error that the replacement of each channel would add; infinite for channels that are already replaced."""
        costs, channels = np.full(self.width, np.inf), self.channels[self.left]
        costs[channels] = self.diagonal_d[self.left] / self.diagonal_p[self.left]
        return costs

    def replace(self, channel: int) -> None:
        """Replaces a channel."""
        c = int(np.searchsorted(self.channels, channel))
        s, q, r = (columns[:, : self.collected] for columns in (self.s, self.q, self.r))
        row_p = self.p[c] - s @ q[c]
        row_d = self.d[c] - s @ r[c] - r @ s[c]
        spread = row_p / row_p[c]
        rest = row_d - row_d[c] / 2 * spread
        for columns, values in ((self.s, spread), (self.q, row_p), (self.r, rest)):
            columns[:, self.collected] = values
        self.diagonal_p -= spread * row_p
        self.diagonal_d -= 2 * spread * rest
        self.left[c] = False
        self.collected += 1
        if self.collected == self.COLUMNS:
            self.change()

    def change(self) -> None:
        """Makes the changes that are collected, for the channels that are left."""
        left = self.left
        s, q, r = self.s[left], self.q[left], self.r[left]
        self.p = self.p[np.ix_(left, left)] - s @ q.T
        self.d = self.d[np.ix_(left, left)] - s @ r.T - r @ s.T
        self.start(self.channels[left], self.diagonal_p[left], self.diagonal_d[left])


def in_order(order: list[int], errors: np.ndarray) -> np.ndarray:
    """Scores that rise along an order of channels: the largest error so far, and a little more where it does not rise.

    The error may fall: a channel that is left out may make up for one that was left out before.

    >>> in_order([2, 0, 1], np.array([1.0, 0.5, 3.0])).round(6)
    array([1., 3., 1.])
    """
    scores = np.empty(len(order))
    scores[order] = np.maximum.accumulate(errors) * (1 + 1e-12 * np.arange(len(order))) + 1e-300 * np.arange(len(order))
    return scores


def inverse(products: np.ndarray) -> np.ndarray:
    """The inverse of mean products, with a small ridge, so that dead and duplicated channels have one, too."""
    return np.linalg.inv(with_ridge(products))


def with_ridge(products: np.ndarray) -> np.ndarray:
    """Mean products with a small number added to those of a channel with itself."""
    return products + np.eye(len(products)) * max(RIDGE * np.trace(products) / len(products), np.finfo(float).tiny)


def combinations(products: np.ndarray, removed: np.ndarray) -> np.ndarray:
    """The matrix that composes removed channels of the others, by least squares: x is replaced by x @ matrix.

    Args:
        products: the mean products of channels, shape (channels, channels).
        removed: boolean mask over the channels.

    >>> combinations(np.array([[2.0, 1.0], [1.0, 1.0]]), np.array([False, True])).round(4)
    array([[1. , 0.5],
           [0. , 0. ]])
    """
    matrix = np.diag((~removed).astype(float))
    if removed.any() and not removed.all():
        kept = with_ridge(products)[np.ix_(~removed, ~removed)]
        matrix[np.ix_(~removed, removed)] = np.linalg.solve(kept, products[np.ix_(~removed, removed)])
    return matrix
