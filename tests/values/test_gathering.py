"""Positions along several axes, copied in one pass."""

import numpy as np
import pytest

from kerassurgery_fn.values import gathering
from kerassurgery_fn.values.gathering import gather

RNG = np.random.default_rng(0)
ALL = None
CASES = {
    "one axis": ((5, 6), ([3, 1], ALL)),
    "both axes": ((5, 6), ([3, 1, 4], [0, 5])),
    "a kernel": ((3, 3, 8, 10), (ALL, ALL, [1, 2, 7], [0, 3, 9, 9])),
    "axes around another": ((4, 3, 5, 2), ([2, 0], ALL, [4, 1], ALL)),
    "all four": ((4, 3, 5, 6), ([2, 0], [1], [4, 1], [5, 5, 0])),
    "more positions than before": ((2, 3), ([0, 1, 1, 0], [2, 2, 2, 1])),
    "no positions": ((4, 5), ([1, 2], [])),
    "no rows": ((4, 5), ([], [1])),
}


@pytest.mark.parametrize("block", [1, 64, 1 << 18])
@pytest.mark.parametrize("shape, positions", CASES.values(), ids=CASES)
def test_positions_along_all_axes_agree_with_one_axis_after_the_other(monkeypatch, shape, positions, block):
    monkeypatch.setattr(gathering, "BLOCK", block)
    array = RNG.random(shape, np.float32)
    kept = [None if p is None else np.array(p, np.intp) for p in positions]
    expected = array[np.ix_(*(range(n) if p is None else p for n, p in zip(shape, positions, strict=True)))]
    for layout in (array, np.asfortranarray(array)):
        copy = gather(layout, kept)
        assert copy.dtype == array.dtype
        assert np.array_equal(copy, expected)


def test_an_array_of_which_all_is_kept_is_the_same_array():
    array = np.ones((2, 3))
    assert gather(array, [None, None]) is array
