"""Criteria that read weights only. Each is a pure function from the weights of a coupled group to scores.

Low means that the channel can be deleted. A function returns scores of shape (channels,), or of shape
(members, channels), which the reduction of `importance` combines; None where it says nothing of a group.
"""

from __future__ import annotations

from collections.abc import Callable
from zlib import crc32

import numpy as np

from kerassurgery_fn.arguments import meant, shortened
from kerassurgery_fn.errors import BadValue
from kerassurgery_fn.pruning.criterion_registry import criterion
from kerassurgery_fn.pruning.group_weights import GroupWeights, Member
from kerassurgery_fn.rules.registry import RULES, UNKNOWN

# Which members of a group a norm reads.
MEMBERS: dict[str, Callable[[Member], bool]] = {
    "all": lambda member: True,
    "producers": lambda member: member.is_kernel,
    "consumers": lambda member: member.role == "input",
}


@criterion("magnitude", normalisation="mean")
def magnitude(group: GroupWeights, *, p: float = 2, of: str = "all") -> np.ndarray | None:
    """The Lp norm of the values of each channel, member by member: (sum of |w| ** p) ** (1 / p).

    Li et al. 2017, Pruning Filters for Efficient ConvNets, arXiv:1608.08710, take the L1 norm of each filter:
    `p=1, of="producers"`.

    Args:
        group: the weights of the group.
        p: the order of the norm, positive.
        of: `all` members, the kernels that create the channels (`producers`), or the kernels that read them
            (`consumers`).

    Returns:
        Shape (members, channels). None if the group has no such member.
    """
    check_order(p)
    norms = [member.power_sums(p) ** (1 / p) for member in chosen_members(group, of)]
    return np.stack(norms) if norms else None


@criterion("group_magnitude", normalisation="mean")
def group_magnitude(group: GroupWeights, *, p: float = 2, of: str = "all") -> np.ndarray | None:
    """The Lp norm of all values of each channel, all members together: (sum of |w| ** p over all of them) ** (1 / p).

    Fang et al. 2023, DepGraph: Towards Any Structural Pruning, arXiv:2301.12900, section 3.3.

    Args:
        group, p, of: as for `magnitude`.

    Returns:
        Shape (channels,). None if the group has no such member.
    """
    check_order(p)
    sums = [member.power_sums(p) for member in chosen_members(group, of)]
    return np.sum(sums, axis=0) ** (1 / p) if sums else None


@criterion("bn_scale")
def bn_scale(group: GroupWeights) -> np.ndarray | None:
    """The absolute scale of each channel in a batch normalisation: |gamma|.

    Liu et al. 2017, Learning Efficient Convolutional Networks through Network Slimming, arXiv:1708.06519.

    Returns:
        Shape (batch normalisations, channels). None for a group without batch normalisation.
    """
    scales = [member for member in group.members if is_bn_scale(member)]
    return np.stack([np.abs(member.rows()).mean(axis=1) for member in scales]) if scales else None


def is_bn_scale(member: Member) -> bool:
    """Whether a member is the scale of a batch normalisation."""
    return member.name == "gamma" and RULES.get(member.class_name, UNKNOWN).foldable


@criterion("fpgm", normalisation="mean")
def geometric_median(group: GroupWeights) -> np.ndarray | None:
    """The sum of distances of each filter to all others: sum over j of ||F_c - F_j||.

    It is small for a filter near the geometric median, which the other filters can replace.
    He et al. 2019, Filter Pruning via Geometric Median, arXiv:1811.00250.

    Returns:
        Shape (kernels that create the channels, channels). None for a group without such a kernel.
    """
    return of_kernels(group, sums_of_distances)


@criterion("lamp")
def lamp(group: GroupWeights, *, of: str = "all") -> np.ndarray | None:
    """The share of each channel in the squared magnitude of all channels that are not smaller.

        score(c) = s_c / sum of s_v over all v with s_v >= s_c,  where s is the sum of w ** 2 over the group's weights

    The largest channel of each group has the score 1, so that no layer is deleted as a whole by a global ranking.
    Lee et al. 2021, Layer-Adaptive Sparsity for the Magnitude-based Pruning, arXiv:2010.07611, for channels instead of
    single weights.

    Args:
        group, of: as for `magnitude`.

    Returns:
        Shape (channels,). None if the group has no such member.
    """
    sums = [member.power_sums(2) for member in chosen_members(group, of)]
    if not sums:
        return None
    squares = np.sum(sums, axis=0)
    order = np.argsort(-squares, kind="stable")
    totals = np.empty_like(squares)
    totals[order] = np.cumsum(squares[order])
    return np.divide(squares, totals, out=np.zeros_like(squares), where=totals != 0)


@criterion("cosine")
def cosine(group: GroupWeights) -> np.ndarray | None:
    """How little each filter resembles a filter with a larger norm: 1 - max over those j of cos(F_c, F_j).

    0 for the copy of a larger filter, 2 for its opposite. Only the smaller filter of two that resemble each other
    scores low, so that one of them stays; among equal norms, the first stays. The largest filter scores 2, a filter of
    zeros 0. Ayinde et al. 2019, Redundant feature pruning for accelerated inference in deep neural networks, group
    similar filters and keep one of each group.

    Returns:
        Shape (kernels that create the channels, channels). None for a group without such a kernel.
    """
    return of_kernels(group, difference_to_larger)


@criterion("random")
def random(group: GroupWeights, *, seed: int = 0) -> np.ndarray:
    """Uniform random numbers from 0 to 1, the same for the same seed and name of the group: the baseline.

    Returns:
        Shape (channels,).

    Raises:
        BadValue: the seed is not a whole number, 0 or larger.
    """
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or seed < 0:
        raise BadValue(f"seed must be a whole number, 0 or larger, not {shortened(seed)}")
    return np.random.default_rng([seed, crc32(group.name.encode())]).random(len(group))


def chosen_members(group: GroupWeights, of: str) -> list[Member]:
    """The members of a group that a norm reads.

    Raises:
        BadValue: there is no such choice of members.
    """
    if of not in MEMBERS:
        raise BadValue(f"of: no choice of members {shortened(of)}; {meant(of, MEMBERS)}")
    return [member for member in group.members if MEMBERS[of](member)]


def check_order(p: float) -> None:
    """Raises BadValue if p is not the order of a norm."""
    if isinstance(p, bool) or not isinstance(p, (int, float)) or not 0 < p < np.inf:
        raise BadValue(f"p: the order of a norm is a positive number, such as 1 or 2, not {shortened(p)}")


def of_kernels(group: GroupWeights, function: Callable[[np.ndarray], np.ndarray]) -> np.ndarray | None:
    """A function of the dot products of the filters of each kernel that creates the channels, (kernels, channels).

    Filters that are not finite have the score NaN, and no other filter is compared with them.
    """
    scores = [of_finite(member.dot_products(), function) for member in group.kernels]
    return np.stack(scores) if scores else None


def of_finite(dots: np.ndarray, function: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """A function of the dot products of those filters that are finite, NaN for the others.

    >>> of_finite(np.array([[4.0, np.nan], [np.nan, np.nan]]), np.diagonal)
    array([ 4., nan])
    """
    finite = np.isfinite(np.diagonal(dots))
    scores = np.full(len(dots), np.nan)
    scores[finite] = function(dots[np.ix_(finite, finite)])
    return scores


def sums_of_distances(dots: np.ndarray) -> np.ndarray:
    """The sum of distances of each filter to all others, from their dot products, shape (channels, channels).

    >>> filters = np.array([[0.0, 0.0], [3.0, 4.0]])
    >>> sums_of_distances(filters @ filters.T)
    array([5., 5.])
    """
    squares = np.diagonal(dots)
    # ||a - b||^2 = ||a||^2 + ||b||^2 - 2 a.b, which rounding can make negative for equal filters
    squared = squares[:, None] + squares - 2 * dots
    return np.sqrt(np.maximum(squared, 0)).sum(axis=1)


def difference_to_larger(dots: np.ndarray) -> np.ndarray:
    """1 - the largest cosine with a filter of larger norm, or of equal norm and before it; from dot products.

    >>> filters = np.array([[1.0, 0.0], [2.0, 0.0], [0.0, 1.0], [0.0, 0.0]])
    >>> difference_to_larger(filters @ filters.T)
    array([0., 2., 1., 0.])
    """
    norms = np.sqrt(np.diagonal(dots))
    order = np.argsort(-norms, kind="stable")
    products = np.outer(norms, norms)[np.ix_(order, order)]
    cosines = np.divide(dots[np.ix_(order, order)], products, out=np.zeros_like(products), where=products != 0)
    before = np.tri(len(order), k=-1, dtype=bool)  # filters with a larger norm
    largest = np.where(before, cosines, -1.0).max(axis=1)
    scores = np.empty(len(order))
    scores[order] = np.where(norms[order] > 0, 1 - largest, 0.0)
    return np.where(np.abs(scores) < 1e-12, 0.0, scores)
