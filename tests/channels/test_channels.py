"""The algebra of channel ids."""

import itertools
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.programs import (
    allowed,
    allowed_worlds,
    broken_laws,
    every_choice,
    factorings,
    legal,
    outer,
    programs,
    random_program,
)
from kerassurgery_fn.channels import (
    FIXED,
    Constraints,
    as_map,
    has_ids,
    join,
    merge,
    repeat,
    same_axis,
    select,
    size,
    tile,
)

thorough = settings(derandomize=True, deadline=None, max_examples=100)


def ids(*rows):
    """A channel map from its rows."""
    return np.array([row if isinstance(row, list) else [row] for row in rows])


def picture(axis):
    """An axis as lists."""
    return axis.tolist() if has_ids(axis) else axis


def survivors(solution, axis, *dead):
    """The positions of an axis that stay when all ids of other axes are deleted."""
    mask = solution.none_dead()
    for deleted in dead:
        mask[solution.resolve(deleted)] = True
    mask[FIXED] = False
    return solution.kept(axis, mask).tolist()


def why(solution, axis):
    """The reasons of the pins of an axis, each once."""
    pins = [pin for final in np.unique(solution.resolve(axis)) for pin in solution.reasons.get(int(final), [])]
    return list(dict.fromkeys(str(pin.reason) for pin in pins))


# --- axes

MAPS = st.lists(st.integers(-1, 9), min_size=1, max_size=8).map(lambda row: np.array([row]))
AXES = MAPS | st.integers(1, 8)


def positions(axis):
    """The set of ids of every position, without `FIXED`."""
    columns = axis.T.tolist() if has_ids(axis) else [[]] * axis
    return [set(ids) - {FIXED} for ids in columns]


@pytest.mark.parametrize(
    "axis, n, cuttable", [(ids([7, 8, 9]), 3, True), (ids([5, 5], [7, 8]), 2, True), (4, 4, False), (None, None, False)]
)
def test_size(axis, n, cuttable):
    assert size(axis) == n
    assert has_ids(axis) is cuttable


@pytest.mark.parametrize(
    "a, b, same",
    [
        (ids([7, 8]), ids([7, 8]), True),
        (ids([7, 8]), ids([8, 7]), False),
        (ids([7, 8]), ids([7, 8], [7, 8]), False),
        (ids([7, 8]), 2, False),
        (2, 2, True),
        (2, 3, False),
        (None, None, True),
        (None, 2, False),
        (1, True, False),
    ],
)
def test_same_axis(a, b, same):
    assert same_axis(a, b) is same
    assert same_axis(b, a) is same


def test_as_map_of_an_axis_without_ids_is_fixed():
    assert picture(as_map(3)) == [[FIXED] * 3]
    assert picture(as_map(0)) == [[]]
    assert as_map(axis := ids([7])) is axis


@pytest.mark.parametrize(
    "axis, index, expected",
    [
        (ids([7, 8, 9]), slice(1, None), [[8, 9]]),
        (ids([7, 8, 9]), [2, 0, 2], [[9, 7, 9]]),
        (ids([7, 8, 9]), slice(None, None, -1), [[9, 8, 7]]),
        (ids([5, 5, 6], [7, 8, 7]), [0, 2], [[5, 6], [7, 7]]),
        (ids([7, 8, 9]), np.array([True, False, True]), [[7, 9]]),
        (5, slice(1, 4), 3),
        (5, slice(None, None, 2), 3),
        (5, [0, 0], 2),
        (5, np.array([True, False, True, False, False]), 2),
        (None, slice(1, None), None),
        (None, [0, 1, 2], 3),
    ],
)
def test_select(axis, index, expected):
    assert picture(select(axis, index)) == expected


@given(st.lists(AXES, min_size=1, max_size=4))
def test_join_keeps_the_positions_of_its_parts(parts):
    joined = join(parts)
    assert positions(joined) == [ids for part in parts for ids in positions(part)]


def test_join_keeps_the_ids_of_maps_with_several_rows():
    joined = join([ids([5, 5], [7, 8]), ids([1]), 1, ids([2], [3], [4])])
    assert positions(joined) == [{5, 7}, {5, 8}, {1}, set(), {2, 3, 4}]


def test_join_with_an_axis_of_unknown_size_is_unknown():
    assert join([ids([7]), None]) is None
    assert join([2, None]) is None


def test_join_of_sizes_is_their_sum():
    assert join([2, 3, 4]) == 9


@given(AXES, st.integers(1, 3))
def test_repeat_and_tile(axis, times):
    assert positions(repeat(axis, times)) == [ids for ids in positions(axis) for _ in range(times)]
    assert positions(tile(axis, times)) == positions(axis) * times


def test_operations_on_an_unknown_axis_give_an_unknown_axis():
    assert repeat(None, 2) is None
    assert tile(None, 2) is None
    assert merge([None, ids([7])]) is None


@given(st.lists(AXES, min_size=1, max_size=3))
def test_positions_of_a_merge_have_the_ids_of_all_their_coordinates(parts):
    expected = [set()]
    for part in parts:
        expected = [above | ids for above in expected for ids in positions(part)]
    assert positions(merge(parts)) == expected


def test_merge_of_a_single_axis_is_that_axis():
    assert merge([axis := ids([7, 8])]) is axis


# --- ties, compared with sets that are united one by one


def united(n, ties):
    """The components of n ids after some ties, as a sorted list of sorted lists, worked out the slow way."""
    sets = [{i} for i in range(n)]
    for a, b in ties:
        (set_of_a,) = (s for s in sets if a in s)
        (set_of_b,) = (s for s in sets if b in s)
        if set_of_a is not set_of_b:
            sets = [s for s in sets if s is not set_of_a and s is not set_of_b] + [set_of_a | set_of_b]
    return sorted(map(sorted, sets))


def components(solution):
    """The ids with the same final id, as a sorted list of sorted lists."""
    final = solution.resolve(np.arange(solution.ids)[None])[0]
    return sorted(np.flatnonzero(final == last).tolist() for last in np.unique(final))


PAIRS = st.lists(st.tuples(st.integers(0, 19), st.integers(0, 19)), max_size=30)


@settings(thorough)
@given(PAIRS)
def test_ties_one_by_one_or_all_at_once_give_the_same_components(pairs):
    one_by_one, at_once = Constraints(), Constraints()
    axis = one_by_one.fresh(20)
    for a, b in pairs:
        one_by_one.tie(axis[:, [a]], axis[:, [b]], "")
    axis = at_once.fresh(20)
    at_once.tie(axis[:, [a for a, _ in pairs]], axis[:, [b for _, b in pairs]], "")
    assert components(one_by_one.solve()) == components(at_once.solve()) == united(20, pairs)
    assert not one_by_one.solve().pinned().any()


@settings(thorough)
@given(PAIRS)
def test_ties_of_whole_maps_and_of_copies_of_them_give_the_same_table(pairs):
    whole, copied = Constraints(), Constraints()
    maps = [(whole.fresh(3), copied.fresh(3).copy()) for _ in range(20)]
    for a, b in pairs:
        whole.tie(maps[a][0], maps[b][0], "")
        copied.tie(maps[a][1], maps[b][1], "")
    assert whole.solve().table.tolist() == copied.solve().table.tolist()


@settings(thorough)
@given(PAIRS, st.sets(st.integers(0, 19), max_size=3))
def test_a_pin_pins_exactly_the_ids_that_are_tied_to_it(pairs, held):
    constraints = Constraints()
    axis = constraints.fresh(20)
    constraints.pin(axis[:, sorted(held)], "held")
    for a, b in pairs:
        constraints.tie(axis[:, [a]], axis[:, [b]], "")
    solution = constraints.solve()
    expected = {i for group in united(20, pairs) if held & set(group) for i in group}
    assert set(np.flatnonzero(solution.pinned()[solution.resolve(axis)[0]]).tolist()) == expected


@given(PAIRS, st.lists(st.integers(0, 20), max_size=8))
def test_the_final_ids_of_an_axis_are_listed_once_in_order(pairs, positions):
    constraints = Constraints()
    axis = constraints.fresh(20)
    for a, b in pairs:
        constraints.tie(axis[:, [a]], axis[:, [b]], "")
    some = np.append(axis[0], FIXED)[positions][None]
    solution = constraints.solve()
    assert solution.final_ids(some).tolist() == sorted({*solution.resolve(some).ravel().tolist()} - {FIXED})


def test_a_long_chain_of_ties_is_one_component():
    constraints = Constraints()
    axis = constraints.fresh(1000)
    constraints.tie(axis[:, :-1], axis[:, 1:], "")
    assert components(constraints.solve()) == [list(range(1000))]


def test_fresh_ids_are_new_every_time():
    constraints = Constraints()
    assert picture(constraints.fresh(2)) == [[0, 1]]
    assert picture(constraints.fresh(3)) == [[2, 3, 4]]
    assert constraints.solve().ids == 5


def test_an_axis_tied_to_itself_is_not_pinned():
    constraints = Constraints()
    a = constraints.fresh(2)
    constraints.tie(a, a, "never")
    constraints.tie(a, a.copy(), "never")
    assert not constraints.solve().pinned().any()


@pytest.mark.parametrize("other", [2, 3, None, ids([FIXED, FIXED])])
def test_an_axis_tied_to_an_axis_without_ids_is_pinned(other):
    constraints = Constraints()
    a, free = constraints.fresh(2), constraints.fresh(1)
    constraints.tie(other, a, "it meets the input")
    solution = constraints.solve()
    assert solution.pinned()[a].all()
    assert not solution.pinned()[free].any()


def test_a_tie_that_pins_gives_its_own_reason():
    constraints = Constraints()
    a, b = constraints.fresh(2), constraints.fresh(2)
    constraints.tie(a, 2, "it meets the input")
    constraints.tie(b, join([constraints.fresh(1), 1]), "not this one")
    solution = constraints.solve()
    assert why(solution, a) == ["it meets the input"]
    assert why(solution, b[:, 1:]) == ["it is tied to positions that are not channels"]
    assert why(solution, b[:, :1]) == []


def test_axes_of_different_sizes_that_are_tied_are_pinned():
    constraints = Constraints()
    a, b = constraints.fresh(2), constraints.fresh(3)
    constraints.tie(a, b, "they do not fit")
    assert why(constraints.solve(), a) == why(constraints.solve(), b) == ["they do not fit"]


def test_a_position_with_several_ids_is_deleted_with_any_of_them():
    constraints = Constraints()
    a, b = constraints.fresh(2), constraints.fresh(3)
    flat = merge([a, b])
    solution = constraints.solve()
    assert survivors(solution, flat, a[:, :1]) == [3, 4, 5]
    assert survivors(solution, flat, b[:, 1:2]) == [0, 2, 3, 5]
    assert survivors(solution, flat, a[:, :1], b[:, 1:2]) == [3, 5]
    assert survivors(solution, flat) == [0, 1, 2, 3, 4, 5]


def test_a_tie_of_merged_maps_ties_their_axes():
    constraints = Constraints()
    a, b, c, d = constraints.fresh(2), constraints.fresh(3), constraints.fresh(2), constraints.fresh(3)
    constraints.tie(merge([a, b]), merge([c, d]), "")
    assert components(constraints.solve()) == [[0, 5], [1, 6], [2, 7], [3, 8], [4, 9]]


def test_a_tie_of_maps_merged_in_different_orders_ties_all_coordinates():
    constraints = Constraints()
    a, b = constraints.fresh(2), constraints.fresh(2)
    constraints.tie(merge([a, b]), merge([b, a]), "")
    solution = constraints.solve()
    assert survivors(solution, a, a[:, :1]) == survivors(solution, b, a[:, :1]) == [1]


def test_free_channels_tied_to_a_merged_map_get_its_ids():
    constraints = Constraints()
    a, b, flat = constraints.fresh(2), constraints.fresh(3), constraints.fresh(6)
    constraints.tie(flat, merge([a, b]), "")
    solution = constraints.solve()
    assert survivors(solution, flat, a[:, :1]) == [3, 4, 5]
    assert survivors(solution, flat, b[:, :1]) == [1, 2, 4, 5]
    assert survivors(solution, a, flat[:, :1]) == [1]


def test_positions_of_two_and_of_three_coordinates_that_are_tied_are_pinned():
    constraints = Constraints()
    a, b, c = constraints.fresh(2), constraints.fresh(2), constraints.fresh(2)
    d, e = constraints.fresh(2), constraints.fresh(4)
    constraints.tie(merge([a, b, c]), merge([d, e]), "")
    solution = constraints.solve()
    assert solution.pinned()[:-1].all()
    assert why(solution, a) == ["it is tied to positions of another grid"]


def test_a_merged_map_tied_to_one_of_its_axes_becomes_one_component():
    constraints = Constraints()
    a, b = constraints.fresh(1), constraints.fresh(3)
    constraints.tie(merge([a, b]), repeat(a, 3), "")
    assert components(constraints.solve()) == [[0, 1, 2, 3]]


# --- grids


def grid_of(sizes):
    """Constraints, an axis of fresh channels, and the axes of the grid that the axis is seen as."""
    constraints = Constraints()
    axis = constraints.fresh(int(np.prod(sizes)))
    return constraints, axis, constraints.grid(axis, sizes, "grid")


@pytest.mark.parametrize("sizes", [(2, 3), (3, 2), (2, 2, 2), (1, 6), (6, 1), (2, 1, 3), (6,), (1,), (1, 1)])
def test_an_id_of_a_grid_axis_deletes_exactly_its_positions(sizes):
    constraints, axis, grid = grid_of(sizes)
    solution = constraints.solve()
    assert [size(line) for line in grid] == list(sizes)
    cells = np.arange(axis.shape[1]).reshape(sizes)
    for along, line in enumerate(grid):
        for at in range(sizes[along] if has_ids(line) else 0):
            expected = np.delete(cells, at, axis=along).ravel().tolist()
            assert survivors(solution, axis, line[:, at : at + 1]) == expected
    assert sum(map(has_ids, grid)) == max(1, sum(n > 1 for n in sizes))


@given(st.integers(1, 24), st.data())
def test_a_grid_that_is_merged_again_equals_the_axis(n, data):
    sizes = data.draw(st.sampled_from(factorings(n, 3)))
    constraints = Constraints()
    axis = constraints.fresh(n)
    flat = merge(constraints.grid(axis, sizes, "grid"))
    solution = constraints.solve()
    assert [set(ids) for ids in solution.resolve(flat).T.tolist()] == [
        set(ids) for ids in solution.resolve(axis).T.tolist()
    ]


@given(st.lists(st.integers(2, 4), min_size=1, max_size=3))
def test_a_grid_of_a_merged_map_has_the_merged_axes(sizes):
    constraints = Constraints()
    lines = [constraints.fresh(n) for n in sizes]
    again = constraints.grid(merge(lines), sizes, "grid")
    assert list(map(picture, again)) == list(map(picture, lines))
    assert constraints.count == sum(sizes)
    assert not constraints.solve().pinned().any()


def test_an_image_laid_flat_and_seen_as_an_image_again_has_its_channels_back():
    constraints = Constraints()
    channels = constraints.fresh(3)
    assert list(map(picture, constraints.grid(merge([2, 2, channels]), (2, 2, 3), "grid"))) == [2, 2, [[0, 1, 2]]]
    assert list(map(picture, constraints.grid(merge([2, 2, channels]), (4, 3), "grid"))) == [4, [[0, 1, 2]]]


def test_an_axis_without_ids_is_a_grid_without_ids():
    constraints = Constraints()
    assert constraints.grid(6, (2, 3), "grid") == [2, 3]
    assert constraints.grid(as_map(6), (2, 3), "grid") == [2, 3]


def test_the_same_grid_twice_is_one_grid():
    constraints, axis, (rows, columns) = grid_of((2, 3))
    again_rows, again_columns = constraints.grid(axis, (2, 3), "grid")
    solution = constraints.solve()
    assert survivors(solution, again_rows, rows[:, :1]) == [1]
    assert survivors(solution, again_columns, columns[:, :1]) == [1, 2]
    assert survivors(solution, again_columns, rows[:, :1]) == [0, 1, 2]
    assert not solution.pinned().any()


def test_channels_seen_as_two_grids_that_do_not_fit_go_all_or_none():
    constraints, axis, (rows, _) = grid_of((2, 6))
    constraints.grid(axis, (3, 4), "grid")
    assert survivors(constraints.solve(), axis, rows[:, :1]) == []


def test_channels_seen_as_a_grid_of_two_axes_and_of_three():
    constraints, axis, two = grid_of((2, 4))
    three = constraints.grid(axis, (2, 2, 2), "grid")
    solution = constraints.solve()
    assert full(solution, axis, two)
    assert full(solution, axis, three)


def test_a_grid_of_a_grid_axis():
    constraints, axis, (rows, _) = grid_of((4, 3))
    blocks, _ = constraints.grid(rows, (2, 2), "grid")
    assert survivors(constraints.solve(), axis, blocks[:, :1]) == [6, 7, 8, 9, 10, 11]


def test_heads_with_positions_without_ids_are_pinned():
    constraints = Constraints()
    rows, columns = constraints.grid(join([constraints.fresh(5), 1]), (2, 3), "grid")
    solution = constraints.solve()
    assert solution.pinned()[rows].tolist() == [[False, True]]
    assert solution.pinned()[columns].tolist() == [[False, False, True]]
    assert why(solution, rows) == ["its head or group also has positions that are not channels"]


def test_a_second_row_that_crosses_the_same_grid_axes_is_pinned():
    constraints = Constraints()
    a, b = constraints.fresh(4), constraints.fresh(4)
    constraints.grid(np.concatenate([a, b]), (2, 2), "two grids at once")
    solution = constraints.solve()
    assert why(solution, a) == []
    assert why(solution, b) == ["two grids at once"]


def test_channels_tied_to_their_own_transpose():
    constraints, axis, (rows, columns) = grid_of((2, 2))
    constraints.tie(axis, merge([columns, rows]), "")
    solution = constraints.solve()
    assert survivors(solution, axis, rows[:, :1]) == [3]
    assert survivors(solution, axis, columns[:, 1:]) == [0]


def test_a_grid_tied_to_itself_is_full_after_any_deletion():
    constraints, axis, (rows, columns) = grid_of((2, 3))
    constraints.tie(rows, axis[:, :2], "")
    solution = constraints.solve()
    assert full(solution, axis, [rows, columns])


def test_two_channels_that_are_parts_of_each_other():
    constraints = Constraints()
    a, b, x, y = (constraints.fresh(1) for _ in range(4))
    constraints.tie(a, merge([b, x]), "")
    constraints.tie(b, merge([a, y]), "")
    solution = constraints.solve()
    for dead in every_choice(4):
        mask = np.append(dead, False) & ~solution.pinned()
        alive = [bool(len(solution.kept(axis, mask))) for axis in (a, b, x, y)]
        assert alive[0] == (alive[1] and alive[2])
        assert alive[1] == (alive[0] and alive[3])


# --- reshapes


@pytest.mark.parametrize(
    "olds, news, expected",
    [
        ((2, 3), (6,), [[[0, 0, 0, 1, 1, 1], [2, 3, 4, 2, 3, 4]]]),
        ((2, 3), (2, 3), [[[0, 1]], [[2, 3, 4]]]),
        ((2, 3), (2, 1, 3), [[[0, 1]], 1, [[2, 3, 4]]]),
        ((2, 3), (1, 2, 3), [1, [[0, 1]], [[2, 3, 4]]]),
        ((2, 3), (2, 3, 1), [[[0, 1]], [[2, 3, 4]], 1]),
        ((2, 1, 3), (2, 3), [[[0, 1]], [[2, 2, 2], [3, 4, 5]]]),
        ((4,), (2, 2), [[[4, 5]], [[6, 7]]]),
        ((4, 3), (2, 2, 3), [[[7, 8]], [[9, 10]], [[4, 5, 6]]]),
        ((2, 2), (2, 2, 1, 1), [[[0, 1]], [[2, 3]], 1, 1]),
    ],
)
def test_a_reshape(olds, news, expected):
    constraints = Constraints()
    axes = [constraints.fresh(n) for n in olds]
    assert list(map(picture, constraints.reshape(axes, news, "reshape"))) == expected


def test_a_reshape_across_two_axes_deletes_whole_rows_and_columns():
    constraints = Constraints()
    a, b = constraints.fresh(4), constraints.fresh(3)
    rows, columns = constraints.reshape([a, b], (6, 2), "it is reshaped")
    solution = constraints.solve()
    assert survivors(solution, a, rows[:, :1]) == [2, 3]
    assert survivors(solution, rows, rows[:, :1]) == [3, 4, 5]
    assert survivors(solution, columns, rows[:, :1]) == [0, 1]
    assert survivors(solution, a, columns[:, :1]) == []
    assert why(solution, b) == ["it is reshaped"]


@pytest.mark.parametrize(
    "olds, news, left", [((3, 1), (3,), [0, 1, 2]), ((1, 3), (3,), []), ((3, 1), (1, 3), [0, 1, 2])]
)
def test_an_axis_of_size_one_that_a_reshape_drops_deletes_everything_or_is_pinned(olds, news, left):
    constraints = Constraints()
    axes = [constraints.fresh(n) for n in olds]
    (dropped,) = (axis for axis in axes if size(axis) == 1)
    reshaped = constraints.reshape(axes, news, "it is dropped")
    solution = constraints.solve()
    assert why(solution, dropped) == (["it is dropped"] if left else [])
    assert left or survivors(solution, reshaped[-1], dropped) == []


@pytest.mark.parametrize(
    "olds, news, expected, pinned",
    [
        ((None, 4), (None, 4), [None, [[0, 1, 2, 3]]], False),
        ((None, 4), (None, 2, 2), [None, [[4, 5]], [[6, 7]]], False),
        ((None, 4), (None,), [None], True),
        ((None, None, 4), (None, 4), [None, [[0, 1, 2, 3]]], False),
        ((None, None, 4), (None, 8), [None, 8], True),
        ((4, None), (None, 4), [None, 4], True),
        ((4, None), (None,), [None], True),
    ],
)
def test_a_reshape_with_axes_of_unknown_size(olds, news, expected, pinned):
    constraints = Constraints()
    axes = [n and constraints.fresh(n) for n in olds]
    assert list(map(picture, constraints.reshape(axes, news, "unknown"))) == expected
    solution = constraints.solve()
    assert solution.pinned()[solution.resolve(first_map(axes))].all() == pinned
    assert (why(solution, first_map(axes)) == ["unknown"]) == pinned


def first_map(axes):
    return next(axis for axis in axes if has_ids(axis))


@given(st.integers(1, 24), st.data())
def test_a_reshape_and_its_inverse_tie_and_pin_nothing(n, data):
    there, back = (data.draw(st.sampled_from(factorings(n, rank))) for rank in (1, 3))
    constraints = Constraints()
    axis = constraints.fresh(n)
    split = constraints.reshape([axis], back, "reshape")
    (flat,) = constraints.reshape(split, there, "reshape")
    solution = constraints.solve()
    assert not solution.pinned().any()
    assert [set(ids) for ids in solution.resolve(flat).T.tolist()] == [
        set(ids) for ids in solution.resolve(axis).T.tolist()
    ]


# --- solution


def test_pinned_can_leave_out_ids_that_only_an_output_pins():
    constraints = Constraints()
    a = constraints.fresh(3)
    constraints.pin(a[:, :2], "it is an output", output=True)
    constraints.pin(a[:, 1:2], "it is held")
    constraints.pin(4, "no ids, no pin")
    solution = constraints.solve()
    assert solution.pinned().tolist() == [True, True, False, False]
    assert solution.pinned(output=False).tolist() == [False, True, False, False]


def test_none_dead_keeps_every_position():
    constraints = Constraints()
    axis = merge([constraints.fresh(2), constraints.fresh(2)])
    solution = constraints.solve()
    assert solution.none_dead().tolist() == [False] * 5
    assert solution.kept(axis, solution.none_dead()).tolist() == [0, 1, 2, 3]


def test_no_constraints():
    solution = Constraints().solve()
    assert (solution.ids, solution.none_dead().tolist(), solution.reasons) == (0, [False], {})


def test_positions_without_ids_are_never_deleted():
    constraints = Constraints()
    axis = join([constraints.fresh(1), 2])
    solution = constraints.solve()
    assert survivors(solution, axis, axis) == [1, 2]


# --- the laws, for random programs


@settings(thorough)
@given(programs(steps=16), st.randoms(use_true_random=False))
def test_random_programs_keep_grids_full_and_ties_equal(program, rng):
    assert broken_laws(program, some_choices(rng)) == []


def some_choices(rng):
    """Twelve random choices of n ids, from few to many ids."""
    shares = np.array([0.1, 0.3, 0.5, 0.8] * 3)[:, None]
    return lambda n: np.array([rng.random() for _ in range(12 * n)]).reshape(12, n) < shares


@pytest.mark.slow
@pytest.mark.parametrize("steps", [8, 16, 40])
@pytest.mark.parametrize("part", range(5))
def test_thousands_of_random_programs_keep_the_laws(part, steps):
    """Run all cases whenever the solver changes: rare mistakes show in one program of a thousand."""
    rng = random.Random(f"{steps} steps, part {part}")
    for _ in range(2_000):
        program = random_program(rng, steps)
        assert broken_laws(program, some_choices(rng)) == [], program


@pytest.mark.parametrize("seed", range(4))
def test_long_random_programs_keep_the_laws(seed):
    rng = random.Random(seed)
    for _ in range(40):
        program = random_program(rng, steps=40)
        assert broken_laws(program, some_choices(rng)) == [], program


@settings(thorough)
@given(programs(steps=8, ids=10))
def test_the_solution_allows_only_legal_deletions(program):
    assert allowed(program) <= legal(program)


def test_the_solution_allows_nearly_all_legal_deletions():
    rng = random.Random(1)
    all_of_them = [random_program(rng, steps=8, ids=10) for _ in range(150)]
    exact = sum(allowed(program) == legal(program) for program in all_of_them)
    assert exact >= 0.97 * len(all_of_them)


def full(solution, axis, lines):
    """Whether, for some deletions, a position stays exactly when all its grid coordinates stay."""
    alive = allowed_worlds(solution, some_choices(random.Random(0)))
    return bool((alive(axis) == outer(list(map(alive, lines)))).all())


@pytest.mark.parametrize("n", [8, 12])
def test_any_two_grids_of_an_axis_are_full_after_any_deletion(n):
    every = [sizes for rank in (2, 3) for sizes in factorings(n, rank)]
    for first, second in itertools.product(every, every):
        constraints = Constraints()
        axis = constraints.fresh(n)
        one, two = constraints.grid(axis, first, "grid"), constraints.grid(axis, second, "grid")
        solution = constraints.solve()
        assert full(solution, axis, one), (first, second)
        assert full(solution, axis, two), (first, second)


@pytest.mark.parametrize("sizes", [(2, 4), (4, 2), (2, 2, 2), (2, 3, 2), (4, 3)])
def test_a_grid_tied_to_itself_in_any_order_is_full_after_any_deletion(sizes):
    for order in itertools.permutations(range(len(sizes))):
        constraints, axis, lines = grid_of(sizes)
        turned = merge([lines[i] for i in order])
        constraints.tie(axis, turned, "")
        solution = constraints.solve()
        alive = allowed_worlds(solution, some_choices(random.Random(0)))
        assert full(solution, axis, lines), order
        assert (alive(axis) == alive(turned)).all(), order


# --- sabotage: the laws detect a solver that leaves out a step

LEFT_OUT = {
    "pins of what cannot be equal": ("_Solver._pin", lambda self, ids, reason: None),
    "ties between parts": ("_pairs_to_tie", lambda a, b: []),
    "rounds after the first": ("_Solver._missing_ties", lambda self: []),
    "positions without ids": ("FIXED", 0),
}


@pytest.mark.parametrize("name, wrong", LEFT_OUT.values(), ids=LEFT_OUT)
def test_a_solver_without_one_of_its_steps_breaks_a_law(monkeypatch, name, wrong):
    monkeypatch.setattr(f"kerassurgery_fn.channels.solver.{name}", wrong)
    rng = random.Random(0)
    assert any(broken_laws(random_program(rng, steps=16), some_choices(rng)) for _ in range(1000))
