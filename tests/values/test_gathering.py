"""Positions along several axes, copied in one pass."""

import numpy as np
import pytest

from kerassurgery_fn.values import allocation, gathering
from kerassurgery_fn.values.gathering import gather, gather_all

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
    "neighbours": ((4, 9), (ALL, [1, 2, 3, 5, 6, 8])),
    "neighbours on both axes": ((7, 2, 9), ([2, 3, 4, 0], ALL, [0, 1, 2, 6, 5, 4, 5])),
    "no element": ((4, 5, 0), (ALL, [1, 2], ALL)),
}


@pytest.mark.parametrize("neighbours", [1, 2, 64])
@pytest.mark.parametrize("block", [1, 64, 1 << 18])
@pytest.mark.parametrize("shape, positions", CASES.values(), ids=CASES)
def test_positions_along_all_axes_agree_with_one_axis_after_the_other(monkeypatch, shape, positions, block, neighbours):
    for name, value in {"BLOCK": block, "NEIGHBOURS": neighbours, "LEAST": 0}.items():
        monkeypatch.setattr(gathering, name, value)
    array = RNG.random(shape, np.float32)
    kept = [None if p is None else np.array(p, np.intp) for p in positions]
    expected = array[np.ix_(*(range(n) if p is None else p for n, p in zip(shape, positions, strict=True)))]
    for layout in (array, np.asfortranarray(array)):
        for copy in (gather(layout, kept), *gather_all([layout], [kept])):
            assert copy.dtype == array.dtype
            assert np.array_equal(copy, expected)


def test_an_array_of_which_all_is_kept_is_the_same_array():
    array = np.ones((2, 3))
    assert gather(array, [None, None]) is array


def test_many_arrays_are_copied_as_one_by_one(monkeypatch):
    arrays = [RNG.random(shape, np.float32) for shape in ((40, 50), (7,), (3, 3, 8, 10), (0, 4))]
    positions = [[np.arange(0, 40, 2), np.arange(25)], [ALL], [ALL, ALL, np.array([1, 2]), ALL], [ALL, np.array([1])]]
    monkeypatch.setattr(gathering, "THREADS", 2)
    for limit in ("LARGE", "ENOUGH"):
        monkeypatch.setattr(gathering, limit, 1)
    copies = gather_all(arrays, positions)
    assert copies[1] is arrays[1]
    for copy, array, kept in zip(copies, arrays, positions, strict=True):
        np.testing.assert_array_equal(copy, gather(array, kept))


def test_arrays_share_blocks_of_memory_that_are_not_much_larger(monkeypatch):
    for name, size in (("LEAST", 8), ("HUGE", 64), ("BLOCK", 128)):
        monkeypatch.setattr(allocation, name, size)
    shapes = [(2, 3), (5,), (1,), (100,), (0, 2), (4, 2)]
    arrays = allocation.allocated(shapes, [np.dtype(np.float32)] * len(shapes))
    for number, array in enumerate(arrays):
        array[...] = number
    assert [array.shape for array in arrays] == shapes
    assert all((array == number).all() for number, array in enumerate(arrays))  # none lies on another
    assert all(array.flags.c_contiguous and array.flags.writeable for array in arrays)
    blocks = {id(block): block for array in arrays if (block := owner_of(array)) is not array}
    assert len(blocks) == 1
    assert all(block.nbytes < 128 + 3 * 64 for block in blocks.values())


def owner_of(array):
    while array.base is not None:
        array = array.base
    return array


def test_few_arrays_have_memory_of_their_own():
    arrays = allocation.allocated([(3,), (100, 100)], [np.dtype(np.float32)] * 2)
    assert all(owner_of(array) is array for array in arrays)
