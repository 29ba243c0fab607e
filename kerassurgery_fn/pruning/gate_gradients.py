"""Gradients of gates on channels, as statistics that can be added up."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kerassurgery_fn.pruning.activation_statistics import ratio


@dataclass(frozen=True, eq=False)
class GateGradients:
    """Gradients of a number, such as the loss, with respect to a gate on each channel.

    A gate is a factor: 1 in the model, 0 without the channel. The gradient of a sample with respect to it is
    g = sum over positions of (activation * gradient of the sample's number). Arrays have the shape (channels,):

    - `samples`: the number of samples;
    - `total`: the sum of g over samples. To first order, zeroing the channel changes the summed loss by -total;
    - `magnitudes`, `squares`: the sums over samples of |g| and of g ** 2;
    - `products`: the sum over samples and positions of |activation * gradient|.

    `a + b` is the statistics of the data of both.

    >>> a = gate_gradients_of(np.array([[1.0, -2.0]]), np.array([[3.0, 1.0]]))
    >>> b = gate_gradients_of(np.array([[1.0, 2.0]]), np.array([[-1.0, 1.0]]))
    >>> (a + b).total, (a + b).mean_magnitude, (a + b).mean_square
    (array([2., 0.]), array([2., 2.]), array([5., 4.]))
    """

    samples: np.ndarray
    total: np.ndarray
    magnitudes: np.ndarray
    squares: np.ndarray
    products: np.ndarray

    def __add__(self, other: GateGradients) -> GateGradients:
        return GateGradients(
            self.samples + other.samples, self.total + other.total, self.magnitudes + other.magnitudes,
            self.squares + other.squares, self.products + other.products,
        )  # fmt: skip

    @property
    def mean(self) -> np.ndarray:
        """The mean of g over samples, shape (channels,)."""
        return ratio(self.total, self.samples)

    @property
    def mean_magnitude(self) -> np.ndarray:
        """The mean of |g| over samples, shape (channels,)."""
        return ratio(self.magnitudes, self.samples)

    @property
    def mean_square(self) -> np.ndarray:
        """The mean of g ** 2 over samples, shape (channels,)."""
        return ratio(self.squares, self.samples)

    @property
    def mean_product(self) -> np.ndarray:
        """The mean over samples of the sum over positions of |activation * gradient|, shape (channels,)."""
        return ratio(self.products, self.samples)


def gate_gradients_of(activations: np.ndarray, gradients: np.ndarray) -> GateGradients:
    """The statistics of activations and the gradients of each sample, shape (samples, ..., channels)."""
    products = activations * gradients
    positions = tuple(range(1, products.ndim - 1))
    g = products.sum(axis=positions)
    return GateGradients(
        np.full(g.shape[1], len(g)), g.sum(axis=0), np.abs(g).sum(axis=0), (g**2).sum(axis=0),
        np.abs(products).sum(axis=(0, *positions)),
    )  # fmt: skip
