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
    column,
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
    """A channel map written down."""
    return np.array([row if isinstance(row, list) else [row] for row in rows])


def picture(axis):
    """An axis as lists."""
    return axis.tolist() if has_ids(axis) else axis


def survivors(solution, axis, *dead):
    """The positions of an axis that are left when axes die, each one whole."""
    mask = solution.none_dead()
    for one in dead:
        mask[solution.resolve(one)] = True
    mask[FIXED] = False
    return solution.kept(axis, mask).tolist()


def why(solution, axis):
    """The reasons for which an axis is pinned, each once."""
    pins = [pin for one in np.unique(solution.resolve(axis)) for pin in solution.reasons.get(int(one), [])]
    return list(dict.fromkeys(pin.reason for pin in pins))


# --- axes

MAPS = st.lists(st.integers(-1, 9), min_size=1, max_size=8).map(lambda row: np.array([row]))
AXES = MAPS | st.integers(1, 8)


def positions(axis):
    """The set of ids of every position, fixed ones left out."""
    columns = axis.T.tolist() if has_ids(axis) else [[]] * axis
    return [{one for one in ids if one != FIXED} for ids in columns]


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
def test_the_same_axis(a, b, same):
    assert same_axis(a, b) is same
    assert same_axis(b, a) is same


def test_the_map_of_an_axis_without_ids_is_fixed():
    assert picture(column(3)) == [[FIXED] * 3]
    assert picture(column(0)) == [[]]
    assert column(axis := ids([7])) is axis


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
def test_a_join_has_the_positions_of_its_parts(parts):
    made = join(parts)
    assert positions(made) == [ids for part in parts for ids in positions(part)]


def test_a_join_of_maps_with_several_rows_means_what_its_parts_mean():
    made = join([ids([5, 5], [7, 8]), ids([1]), 1, ids([2], [3], [4])])
    assert positions(made) == [{5, 7}, {5, 8}, {1}, set(), {2, 3, 4}]


def test_a_join_with_an_axis_of_unknown_size_is_unknown():
    assert join([ids([7]), None]) is None
    assert join([2, None]) is None


def test_a_join_of_sizes_is_their_sum():
    assert join([2, 3, 4]) == 9


@given(AXES, st.integers(1, 3))
def test_repeat_and_tile(axis, times):
    assert positions(repeat(axis, times)) == [ids for ids in positions(axis) for _ in range(times)]
    assert positions(tile(axis, times)) == positions(axis) * times


def test_an_unknown_axis_stays_unknown():
    assert repeat(None, 2) is None
    assert tile(None, 2) is None
    assert merge([None, ids([7])]) is None


@given(st.lists(AXES, min_size=1, max_size=3))
def test_every_position_of_a_merge_carries_the_ids_of_all_its_coordinates(parts):
    expected = [set()]
    for part in parts:
        expected = [above | ids for above in expected for ids in positions(part)]
    assert positions(merge(parts)) == expected


def test_a_merge_of_one_axis_is_that_axis():
    assert merge([axis := ids([7, 8])]) is axis


# --- ties, against sets that are united one by one


def united(n, ties):
    """Which of n things are tied, as a sorted list of sorted lists: the slow way."""
    sets = [{i} for i in range(n)]
    for a, b in ties:
        (one,) = (s for s in sets if a in s)
        (two,) = (s for s in sets if b in s)
        if one is not two:
            sets = [s for s in sets if s is not one and s is not two] + [one | two]
    return sorted(map(sorted, sets))


def components(solution):
    """Which ids have the same final id, as a sorted list of sorted lists."""
    final = solution.resolve(np.arange(solution.ids)[None])[0]
    return sorted(np.flatnonzero(final == one).tolist() for one in np.unique(final))


PAIRS = st.lists(st.tuples(st.integers(0, 19), st.integers(0, 19)), max_size=30)


@settings(thorough)
@given(PAIRS)
def test_ties_are_components_however_they_are_given(pairs):
    one_by_one, at_once = Constraints(), Constraints()
    axis = one_by_one.fresh(20)
    for a, b in pairs:
        one_by_one.tie(axis[:, [a]], axis[:, [b]], "")
    axis = at_once.fresh(20)
    at_once.tie(axis[:, [a for a, _ in pairs]], axis[:, [b for _, b in pairs]], "")
    assert components(one_by_one.solve()) == components(at_once.solve()) == united(20, pairs)
    assert not one_by_one.solve().pinned().any()


@settings(thorough)
@given(PAIRS, st.sets(st.integers(0, 19), max_size=3))
def test_a_pin_holds_all_that_is_tied_to_it_and_nothing_else(pairs, held):
    constraints = Constraints()
    axis = constraints.fresh(20)
    constraints.pin(axis[:, sorted(held)], "held")
    for a, b in pairs:
        constraints.tie(axis[:, [a]], axis[:, [b]], "")
    solution = constraints.solve()
    expected = {i for group in united(20, pairs) if held & set(group) for i in group}
    assert set(np.flatnonzero(solution.pinned()[solution.resolve(axis)[0]]).tolist()) == expected


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


def test_an_axis_tied_to_itself_is_free():
    constraints = Constraints()
    a = constraints.fresh(2)
    constraints.tie(a, a, "never")
    constraints.tie(a, a.copy(), "never")
    assert not constraints.solve().pinned().any()


@pytest.mark.parametrize("other", [2, 3, None, ids([FIXED, FIXED])])
def test_an_axis_tied_to_what_has_no_ids_is_pinned(other):
    constraints = Constraints()
    a, free = constraints.fresh(2), constraints.fresh(1)
    constraints.tie(other, a, "it meets the input")
    solution = constraints.solve()
    assert solution.pinned()[a].all()
    assert not solution.pinned()[free].any()


def test_the_reason_for_a_pin_by_a_tie_is_the_tie_s():
    constraints = Constraints()
    a, b = constraints.fresh(2), constraints.fresh(2)
    constraints.tie(a, 2, "it meets the input")
    constraints.tie(b, join([constraints.fresh(1), 1]), "not this one")
    solution = constraints.solve()
    assert why(solution, a) == ["it meets the input"]
    assert why(solution, b[:, 1:]) == ["it is joined with positions that are no channels"]
    assert why(solution, b[:, :1]) == []


def test_axes_of_different_sizes_that_are_tied_are_pinned():
    constraints = Constraints()
    a, b = constraints.fresh(2), constraints.fresh(3)
    constraints.tie(a, b, "they do not fit")
    assert why(constraints.solve(), a) == why(constraints.solve(), b) == ["they do not fit"]


def test_a_position_of_several_ids_dies_with_any_of_them():
    constraints = Constraints()
    a, b = constraints.fresh(2), constraints.fresh(3)
    flat = merge([a, b])
    solution = constraints.solve()
    assert survivors(solution, flat, a[:, :1]) == [3, 4, 5]
    assert survivors(solution, flat, b[:, 1:2]) == [0, 2, 3, 5]
    assert survivors(solution, flat, a[:, :1], b[:, 1:2]) == [3, 5]
    assert survivors(solution, flat) == [0, 1, 2, 3, 4, 5]


def test_merged_maps_that_are_tied_have_their_lines_tied():
    constraints = Constraints()
    a, b, c, d = constraints.fresh(2), constraints.fresh(3), constraints.fresh(2), constraints.fresh(3)
    constraints.tie(merge([a, b]), merge([c, d]), "")
    assert components(constraints.solve()) == [[0, 5], [1, 6], [2, 7], [3, 8], [4, 9]]


def test_merged_maps_that_are_tied_in_another_order_leave_a_line_at_most():
    constraints = Constraints()
    a, b = constraints.fresh(2), constraints.fresh(2)
    constraints.tie(merge([a, b]), merge([b, a]), "")
    solution = constraints.solve()
    assert survivors(solution, a, a[:, :1]) == survivors(solution, b, a[:, :1]) == [1]


def test_free_channels_tied_to_merged_ones_stand_for_their_lines():
    constraints = Constraints()
    a, b, flat = constraints.fresh(2), constraints.fresh(3), constraints.fresh(6)
    constraints.tie(flat, merge([a, b]), "")
    solution = constraints.solve()
    assert survivors(solution, flat, a[:, :1]) == [3, 4, 5]
    assert survivors(solution, flat, b[:, :1]) == [1, 2, 4, 5]
    assert survivors(solution, a, flat[:, :1]) == [1]


def test_positions_of_two_lines_and_of_three_that_meet_are_pinned():
    constraints = Constraints()
    a, b, c = constraints.fresh(2), constraints.fresh(2), constraints.fresh(2)
    d, e = constraints.fresh(2), constraints.fresh(4)
    constraints.tie(merge([a, b, c]), merge([d, e]), "")
    solution = constraints.solve()
    assert solution.pinned()[:-1].all()
    assert why(solution, a) == ["it is joined with positions of another grid"]


def test_positions_that_meet_those_of_one_of_their_lines_die_with_all_of_them():
    constraints = Constraints()
    a, b = constraints.fresh(1), constraints.fresh(3)
    constraints.tie(merge([a, b]), repeat(a, 3), "")
    assert components(constraints.solve()) == [[0, 1, 2, 3]]


# --- grids


def lines_of(sizes):
    """A constraints, an axis of fresh channels, and the axes of the grid that it is seen as."""
    constraints = Constraints()
    axis = constraints.fresh(int(np.prod(sizes)))
    return constraints, axis, constraints.grid(axis, sizes, "grid")


@pytest.mark.parametrize("sizes", [(2, 3), (3, 2), (2, 2, 2), (1, 6), (6, 1), (2, 1, 3), (6,), (1,), (1, 1)])
def test_every_line_of_a_grid_takes_just_its_positions_with_it(sizes):
    constraints, axis, grid = lines_of(sizes)
    solution = constraints.solve()
    assert [size(line) for line in grid] == list(sizes)
    cells = np.arange(axis.shape[1]).reshape(sizes)
    for along, line in enumerate(grid):
        for at in range(sizes[along] if has_ids(line) else 0):
            expected = np.delete(cells, at, axis=along).ravel().tolist()
            assert survivors(solution, axis, line[:, at : at + 1]) == expected
    assert sum(map(has_ids, grid)) == max(1, sum(n > 1 for n in sizes))


@given(st.integers(1, 24), st.data())
def test_a_grid_laid_flat_again_is_the_axis_it_was(n, data):
    sizes = data.draw(st.sampled_from(factorings(n, 3)))
    constraints = Constraints()
    axis = constraints.fresh(n)
    flat = merge(constraints.grid(axis, sizes, "grid"))
    solution = constraints.solve()
    assert [set(ids) for ids in solution.resolve(flat).T.tolist()] == [
        set(ids) for ids in solution.resolve(axis).T.tolist()
    ]


@given(st.lists(st.integers(2, 4), min_size=1, max_size=3))
def test_a_grid_of_a_merge_gives_its_lines_back(sizes):
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
    assert constraints.grid(column(6), (2, 3), "grid") == [2, 3]


def test_the_same_grid_twice_is_one_grid():
    constraints, axis, (rows, columns) = lines_of((2, 3))
    again_rows, again_columns = constraints.grid(axis, (2, 3), "grid")
    solution = constraints.solve()
    assert survivors(solution, again_rows, rows[:, :1]) == [1]
    assert survivors(solution, again_columns, columns[:, :1]) == [1, 2]
    assert survivors(solution, again_columns, rows[:, :1]) == [0, 1, 2]
    assert not solution.pinned().any()


def test_channels_seen_as_two_grids_that_do_not_fit_go_all_or_none():
    constraints, axis, (rows, _) = lines_of((2, 6))
    constraints.grid(axis, (3, 4), "grid")
    assert survivors(constraints.solve(), axis, rows[:, :1]) == []


def test_channels_seen_as_a_grid_of_two_axes_and_of_three():
    constraints, axis, two = lines_of((2, 4))
    three = constraints.grid(axis, (2, 2, 2), "grid")
    solution = constraints.solve()
    assert full(solution, axis, two)
    assert full(solution, axis, three)


def test_a_grid_of_a_grid_s_line():
    constraints, axis, (rows, _) = lines_of((4, 3))
    blocks, _ = constraints.grid(rows, (2, 2), "grid")
    assert survivors(constraints.solve(), axis, blocks[:, :1]) == [6, 7, 8, 9, 10, 11]


def test_lines_that_hold_positions_without_ids_are_pinned():
    constraints = Constraints()
    rows, columns = constraints.grid(join([constraints.fresh(5), 1]), (2, 3), "grid")
    solution = constraints.solve()
    assert solution.pinned()[rows].tolist() == [[False, True]]
    assert solution.pinned()[columns].tolist() == [[False, False, True]]
    assert why(solution, rows) == ["it shares lines of a grid with positions that are no channels"]


def test_a_second_row_across_the_same_lines_is_pinned():
    constraints = Constraints()
    a, b = constraints.fresh(4), constraints.fresh(4)
    constraints.grid(np.concatenate([a, b]), (2, 2), "two grids at once")
    solution = constraints.solve()
    assert why(solution, a) == []
    assert why(solution, b) == ["two grids at once"]


def test_channels_tied_to_themselves_transposed():
    constraints, axis, (rows, columns) = lines_of((2, 2))
    constraints.tie(axis, merge([columns, rows]), "")
    solution = constraints.solve()
    assert survivors(solution, axis, rows[:, :1]) == [3]
    assert survivors(solution, axis, columns[:, 1:]) == [0]


def test_a_grid_that_is_joined_with_itself_is_full_whatever_dies():
    constraints, axis, (rows, columns) = lines_of((2, 3))
    constraints.tie(rows, axis[:, :2], "")
    solution = constraints.solve()
    assert full(solution, axis, [rows, columns])


def test_two_channels_each_of_which_stands_for_the_other():
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


def test_a_reshape_across_two_axes_leaves_what_makes_up_whole_lines():
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
def test_an_axis_of_one_position_that_a_reshape_drops_takes_all_with_it_or_is_pinned(olds, news, left):
    constraints = Constraints()
    axes = [constraints.fresh(n) for n in olds]
    (dropped,) = (axis for axis in axes if size(axis) == 1)
    made = constraints.reshape(axes, news, "it is dropped")
    solution = constraints.solve()
    assert why(solution, dropped) == (["it is dropped"] if left else [])
    assert left or survivors(solution, made[-1], dropped) == []


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
    assert solution.pinned()[solution.resolve(ledger_axis(axes))].all() == pinned
    assert (why(solution, ledger_axis(axes)) == ["unknown"]) == pinned


def ledger_axis(axes):
    return next(axis for axis in axes if has_ids(axis))


@given(st.integers(1, 24), st.data())
def test_there_and_back_again_a_reshape_ties_and_pins_nothing(n, data):
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


def test_what_only_an_output_holds_can_be_told_from_what_more_holds():
    constraints = Constraints()
    a = constraints.fresh(3)
    constraints.pin(a[:, :2], "it is an output", output=True)
    constraints.pin(a[:, 1:2], "it is held")
    constraints.pin(4, "no ids, no pin")
    solution = constraints.solve()
    assert solution.pinned().tolist() == [True, True, False, False]
    assert solution.pinned(output=False).tolist() == [False, True, False, False]


def test_nobody_is_dead_to_begin_with():
    constraints = Constraints()
    axis = merge([constraints.fresh(2), constraints.fresh(2)])
    solution = constraints.solve()
    assert solution.none_dead().tolist() == [False] * 5
    assert solution.kept(axis, solution.none_dead()).tolist() == [0, 1, 2, 3]


def test_an_empty_ledger():
    solution = Constraints().solve()
    assert (solution.ids, solution.none_dead().tolist(), solution.reasons) == (0, [False], {})


def test_positions_without_ids_never_die():
    constraints = Constraints()
    axis = join([constraints.fresh(1), 2])
    solution = constraints.solve()
    assert survivors(solution, axis, axis) == [1, 2]


# --- the laws, for any program whatsoever


@settings(thorough)
@given(programs(steps=16), st.randoms(use_true_random=False))
def test_whatever_dies_grids_stay_full_and_ties_stay_true(program, rng):
    assert broken_laws(program, some_choices(rng)) == []


def some_choices(rng):
    """Twelve choices of n ids each, of few and of many."""
    shares = np.array([0.1, 0.3, 0.5, 0.8] * 3)[:, None]
    return lambda n: np.array([rng.random() for _ in range(12 * n)]).reshape(12, n) < shares


@pytest.mark.slow
@pytest.mark.parametrize("steps", [8, 16, 40])
def test_thousands_of_programs_keep_the_laws(steps):
    """To be run whenever the algebra changes: its rarer mistakes show in one program of a thousand."""
    rng = random.Random(steps)
    for _ in range(10_000):
        program = random_program(rng, steps)
        assert broken_laws(program, some_choices(rng)) == [], program


@pytest.mark.parametrize("seed", range(4))
def test_long_programs_keep_the_laws_too(seed):
    rng = random.Random(seed)
    for _ in range(40):
        program = random_program(rng, steps=40)
        assert broken_laws(program, some_choices(rng)) == [], program


@settings(thorough)
@given(programs(steps=8, ids=10))
def test_by_enumeration_fates_allow_nothing_that_is_not_legal(program):
    assert allowed(program) <= legal(program)


def test_by_enumeration_fates_allow_nearly_all_that_is_legal():
    rng = random.Random(1)
    all_of_them = [random_program(rng, steps=8, ids=10) for _ in range(150)]
    exact = sum(allowed(program) == legal(program) for program in all_of_them)
    assert exact >= 0.97 * len(all_of_them)


def full(solution, axis, lines):
    """Whether just the positions are left all of whose lines are left, for some choices of what dies."""
    alive = allowed_worlds(solution, some_choices(random.Random(0)))
    return bool((alive(axis) == outer(list(map(alive, lines)))).all())


@pytest.mark.parametrize("n", [8, 12])
def test_any_two_grids_of_an_axis_are_full_whatever_dies(n):
    every = [sizes for rank in (2, 3) for sizes in factorings(n, rank)]
    for first, second in itertools.product(every, every):
        constraints = Constraints()
        axis = constraints.fresh(n)
        one, two = constraints.grid(axis, first, "grid"), constraints.grid(axis, second, "grid")
        solution = constraints.solve()
        assert full(solution, axis, one), (first, second)
        assert full(solution, axis, two), (first, second)


@pytest.mark.parametrize("sizes", [(2, 4), (4, 2), (2, 2, 2), (2, 3, 2), (4, 3)])
def test_a_grid_tied_to_itself_in_any_order_is_full_whatever_dies(sizes):
    for order in itertools.permutations(range(len(sizes))):
        constraints, axis, lines = lines_of(sizes)
        turned = merge([lines[i] for i in order])
        constraints.tie(axis, turned, "")
        solution = constraints.solve()
        alive = allowed_worlds(solution, some_choices(random.Random(0)))
        assert full(solution, axis, lines), order
        assert (alive(axis) == alive(turned)).all(), order


# --- sabotage: an algebra that forgets something is found out

FORGOTTEN = {
    "to pin what cannot be told": ("_Solver._pin", lambda self, ids, reason: None),
    "to tie the parts of what is tied": ("_equated", lambda a, b: []),
    "to look again after a tie": ("_Solver._disagreements", lambda self: []),
    "which positions have no ids": ("FIXED", 0),
}


@pytest.mark.parametrize("name, wrong", FORGOTTEN.values(), ids=FORGOTTEN)
def test_an_algebra_that_forgets_something_breaks_a_law(monkeypatch, name, wrong):
    monkeypatch.setattr(f"kerassurgery_fn.channels.solver.{name}", wrong)
    rng = random.Random(0)
    assert any(broken_laws(random_program(rng, steps=16), some_choices(rng)) for _ in range(1000))
