"""Arrays that stay in a file, and selections of them: equal to what NumPy makes of the array in memory."""

import copy
import os
import pickle
from itertools import product

import numpy as np
import pytest

from kerassurgery_fn.values import mapped_arrays
from kerassurgery_fn.values.mapped_arrays import (
    SelectedArray,
    blocks,
    elementwise,
    is_read_lazily,
    map_bytes,
    places,
    read_file,
    release,
    take,
)
from kerassurgery_fn.values.scratch import Scratch
from kerassurgery_fn.values.snapshot import Snapshot, same_arrays

SHAPES = [(5000,), (80, 70), (3, 3, 30, 20), (1, 1, 100, 50), (3, 1, 1, 1, 1500), (40, 3000)]


def mapped(array, folder, before=b"head"):
    """The array, in a file behind some other bytes, mapped."""
    path = folder / "array"
    path.write_bytes(before + array.tobytes() + b"tail")
    with path.open("rb") as file:
        whole = map_bytes(file, len(before), array.nbytes + 4)
    path.unlink()  # the file stays as long as it is mapped
    return whole[: array.nbytes].view(array.dtype).reshape(array.shape)


@pytest.fixture(params=SHAPES, ids=str)
def arrays(request, tmp_path):
    """An array in memory and the same in a file."""
    array = np.random.default_rng(0).standard_normal(request.param).astype(np.float32)
    return array, mapped(array, tmp_path)


@pytest.fixture(params=[1 << 20, 1000])
def block_size(request, monkeypatch):
    monkeypatch.setattr(mapped_arrays, "BLOCK", request.param)


def selections(shape, rng):
    """Positions for some of the axes: half of them, one, sorted or not, and all of them."""
    yield from product(*([None, np.sort(rng.permutation(n)[: max(1, n // 2)])] for n in shape))
    yield [rng.integers(0, n, min(n, 20)) for n in shape]
    yield [np.array([n - 1]) for n in shape]
    yield [np.arange(n) for n in shape]


def both_taken(array, in_file, positions):
    for axis, chosen in enumerate(positions):
        if chosen is not None:
            array, in_file = np.take(array, chosen, axis), take(in_file, chosen, axis)
    return array, in_file


@pytest.mark.usefixtures("block_size")
def test_positions_of_a_file(arrays):
    for positions in selections(arrays[0].shape, np.random.default_rng(1)):
        wanted, selected = both_taken(*arrays, positions)
        assert type(selected) is SelectedArray or all(chosen is None for chosen in positions)
        assert (selected.shape, selected.dtype, selected.size) == (wanted.shape, wanted.dtype, wanted.size)
        assert (selected.nbytes, selected.ndim, len(selected)) == (wanted.nbytes, wanted.ndim, len(wanted))
        np.testing.assert_array_equal(np.asarray(selected), wanted)
        content = np.full(wanted.shape, np.nan, np.float32)
        for place, block in blocks(selected):
            assert np.isnan(content[place]).all(), "a block is read twice"
            content[place] = block
        np.testing.assert_array_equal(content, wanted)


def test_selections_of_selections(arrays):
    wanted, selected = arrays
    rng = np.random.default_rng(2)
    for axis in [*range(wanted.ndim), *range(wanted.ndim)]:
        positions = rng.integers(0, wanted.shape[axis], wanted.shape[axis])
        wanted, selected = np.take(wanted, positions, axis), take(selected, positions, axis)
        wanted, selected = wanted * np.float32(3), elementwise(selected, lambda part: part * np.float32(3))
    assert type(selected) is SelectedArray
    np.testing.assert_array_equal(np.asarray(selected), wanted)


def test_a_precision_of_a_file(arrays):
    wanted, in_file = arrays
    half = elementwise(in_file, lambda part: part.astype(np.float16))
    assert type(half) is SelectedArray
    assert (half.dtype, half.nbytes) == (np.float16, wanted.nbytes // 2)
    np.testing.assert_array_equal(half, wanted.astype(np.float16))


def test_it_is_used_as_an_array(tmp_path):
    wanted = np.random.default_rng(0).standard_normal((100, 80)).astype(np.float32)
    positions = np.arange(0, 100, 3)
    selected, wanted = take(mapped(wanted, tmp_path), positions, 0), wanted[positions]
    assert isinstance(selected, np.ndarray)
    assert not selected.flags.writeable
    for function in (
        lambda a: a + 1, lambda a: 2 * a, lambda a: -a, lambda a: a @ np.eye(80), lambda a: a[3],
        lambda a: a[:, 1:4].sum(), lambda a: np.sum(a, axis=0),
        lambda a: a.astype(int), lambda a: a.reshape(-1), np.exp, np.abs, np.transpose,
        lambda a: np.moveaxis(a, 0, 1), lambda a: a.tolist(), lambda a: np.concatenate([a, a]), lambda a: a == a,
        lambda a: list(map(float, a[0])), lambda a: np.array_equal(a, a), lambda a: a.T.copy(), np.ascontiguousarray,
        lambda a: np.add.reduce(a), lambda a: a.max(), list, np.isfinite, lambda a: np.where(a > 0, a, 0), str, repr,
    ):  # fmt: skip
        np.testing.assert_array_equal(function(selected), function(wanted))
    assert type(pickle.loads(pickle.dumps(selected))) is type(copy.deepcopy(selected)) is np.ndarray
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(selected)), wanted)
    assert same_arrays([selected], [wanted])
    assert not same_arrays([selected], [wanted + 1])
    with pytest.raises(TypeError):
        selected[0] = 1
    record = {"class_name": "Sequential", "config": {"name": "m", "layers": []}}
    assert Snapshot(record, {"a": (selected,)}) == Snapshot(record, {"a": (wanted,)})
    assert type(Snapshot(record, {"a": (selected,)}).weights["a"][0]) is SelectedArray


def test_arrays_in_memory_and_small_arrays_are_taken_at_once(tmp_path):
    array = np.arange(12.0).reshape(3, 4)
    for source in (array, mapped(array, tmp_path)):
        assert type(take(source, np.array([2, 0]), 0)) is np.ndarray
        assert type(elementwise(source, np.sqrt)) is np.ndarray
    assert not is_read_lazily(array)
    assert is_read_lazily(mapped(array, tmp_path))


def test_memory_is_given_back_and_read_again(arrays):
    wanted, in_file = arrays
    for array in (in_file, take(in_file, np.arange(wanted.shape[0]), 0), wanted, in_file[:1]):
        before = np.array(array)
        release(array)
        np.testing.assert_array_equal(array, before)


def test_rows_far_apart_are_read_one_by_one(tmp_path, monkeypatch):
    """The rows between them are not read, and the mapping is not used."""
    wanted = np.random.default_rng(0).standard_normal((64, 2048)).astype(np.float32)
    selected = take(mapped(wanted, tmp_path), rows := np.array([3, 4, 40, 9, 63]), 0)
    read, preadv = [], os.preadv

    def counted(descriptor, buffers, position):
        read.append(sum(buffer.nbytes for buffer in buffers))
        return preadv(descriptor, buffers, position)

    monkeypatch.setattr(os, "preadv", counted)
    np.testing.assert_array_equal(np.asarray(selected), wanted[rows])
    assert read == [2 * 8192, 8192, 8192, 8192]


def test_blocks_take_turns_in_the_memory_of_scratches(arrays, monkeypatch):
    monkeypatch.setattr(mapped_arrays, "BLOCK", 4000)
    wanted, in_file = arrays
    selected, scratches = take(in_file, np.arange(wanted.shape[0]), 0), (Scratch(), Scratch())
    before = None
    for place, block in blocks(selected, scratches):
        np.testing.assert_array_equal(block, wanted[place])
        assert before is None or not np.shares_memory(block, before)
        before = block


def test_views_of_a_mapped_array(arrays):
    wanted, in_file = arrays
    np.testing.assert_array_equal(read_file(in_file.T), wanted.T)
    np.testing.assert_array_equal(read_file(in_file[1:2]), wanted[1:2])
    np.testing.assert_array_equal(take(in_file.T, np.array([0, 2]), 0), wanted.T[[0, 2]])
    np.testing.assert_array_equal(read_file(in_file[:0]), wanted[:0])


@pytest.mark.parametrize("shape", [(), (0,), (0, 3), (3, 0), (5,), (300, 4096), (2, 3, 1 << 19)])
def test_places_cover_an_array_once_in_order(shape):
    visited = [np.arange(np.prod(shape, dtype=int)).reshape(shape)[place].reshape(-1) for place in places(shape, 4)]
    assert np.concatenate([*visited, np.empty(0, int)]).tolist() == list(range(np.prod(shape, dtype=int)))
    assert all(4 * part.size <= max(mapped_arrays.BLOCK, 4) for part in visited)
