"""Random programs that add constraints, each with the laws that must hold after any deletion.

A law is a function of `alive`, which takes an axis and returns an array of bools, shape (worlds, positions). A world is
one choice of deleted ids. Laws are about positions only, so that they do not depend on how the solver works:

- the positions of tied axes are deleted together, one by one;
- of an axis that is seen as a grid, exactly the positions stay whose coordinates on all grid axes stay;
- a merged, selected, joined or repeated axis follows the axes that it consists of;
- pinned positions stay.
"""

from itertools import product
from math import prod

import numpy as np
from hypothesis import strategies as st

from kerassurgery_fn.channels import FIXED, Constraints, Solution, has_ids, join, merge, repeat, select, size, tile

LONGEST = 48  # positions of an axis


class Program:
    """Constraints, the axes that the steps returned, and the laws. `pick` chooses one of several options."""

    def __init__(self, pick, steps, ids=10**6):
        self.pick, self.ids = pick, ids
        self.constraints, self.axes, self.producers, self.grids = Constraints(), [], [], []
        self.laws, self.text = [], []
        fresh(self)
        for _ in range(steps):
            pick(STEPS)(self)

    def __repr__(self):
        return "\n".join(["", *self.text])

    def some(self):
        """One of the axes; later axes more often."""
        return self.pick(self.axes[-6:] if self.pick([True, False]) else self.axes)

    def add(self, *axes):
        """Adds axes for later steps; axes that are too long are left out."""
        self.axes += [axis for axis in axes if has_ids(axis) and axis.shape[1] <= LONGEST and len(axis) <= 6]

    def note(self, step, *facts):
        self.text.append(f"{step} {', '.join(np.array2string(np.asarray(fact)) for fact in facts)}".replace("\n", ""))

    def law(self, step, holds):
        self.laws.append((f"{len(self.laws)}: {step}", holds))

    def room(self, n):
        return self.constraints.count + n <= self.ids


# --- the steps of a program


def fresh(program):
    sizes = [n for n in (2, 3, 4, 4, 6, 6, 8, 8, 12, 1) if program.room(n)]
    if sizes:
        axis = program.constraints.fresh(program.pick(sizes))
        program.producers.append(axis)
        program.add(axis)
        program.note("fresh", axis)


def selecting(program):
    axis = program.some()
    n = axis.shape[1]
    start = program.pick(range(n))
    some = [program.pick(range(n)) for _ in range(program.pick([2, 3, 4]))]
    rolled = [*range(start, n), *range(start)]
    index = program.pick([slice(start, None), slice(start + 1), rolled, rolled[::-1], some])
    made = select(axis, index)
    program.add(made)
    program.note(f"select {index}", axis, made)
    program.law("select", lambda alive: alive(made) == alive(axis)[:, index])


def joining(program):
    parts = [program.some() for _ in range(program.pick([2, 3]))] + program.pick([[], [], [], [1], [2]])
    made = join(parts)
    program.add(made)
    program.note("join", *parts, made)
    program.law("join", lambda alive: alive(made) == np.concatenate([alive(part) for part in parts], axis=1))


def stretching(program):
    axis, step, times = program.some(), program.pick([repeat, tile]), program.pick([2, 3])
    like = {repeat: lambda a: np.repeat(a, times, axis=1), tile: lambda a: np.tile(a, times)}[step]
    made = step(axis, times)
    program.add(made)
    program.note(f"{step.__name__} {times}", axis, made)
    program.law(step.__name__, lambda alive: alive(made) == like(alive(axis)))


def merging(program, parts=None):
    parts = parts or [program.some() for _ in range(program.pick([2, 2, 3]))] + program.pick([[], [], [2], [3]])
    if prod(map(size, parts)) <= LONGEST:
        made = merge(parts)
        program.add(made)
        program.note("merge", *parts, made)
        program.law("merge", lambda alive: alive(made) == outer([alive(part) for part in parts]))


def gridding(program):
    axis = program.some()
    sizes = program.pick([each for rank in (2, 2, 3) for each in factorings(axis.shape[1], rank)])
    if not program.room(sum(n for n in sizes if n > 1)):
        return []
    made = program.constraints.grid(axis, sizes, "it is seen as a grid")
    program.add(*made)
    program.grids.append(made)
    program.note(f"grid {sizes}", axis, *made)
    program.law("grid", lambda alive: alive(axis) == outer([alive(part) for part in made]))
    return made


def shuffling(program):
    """A grid that is merged again in another order, like a channel shuffle."""
    made = gridding(program)
    if len(made) > 1:
        first = program.pick(range(1, len(made)))
        merging(program, made[first:] + made[:first])


def regrouping(program):
    """An earlier grid that is merged again in a random order."""
    if program.grids:
        made = list(program.pick(program.grids))
        at = program.pick(range(len(made)))
        made[at], made[-1] = made[-1], made[at]
        merging(program, made)


def reshaping(program):
    axes = [program.some() for _ in range(program.pick([1, 2, 2]))]
    n = prod(map(size, axes))
    if n > LONGEST:
        return
    sizes = program.pick(factorings(n, program.pick([1, 2, 3])))
    if not program.room(sum(sizes)):
        return
    made = program.constraints.reshape(axes, sizes, "it is reshaped")
    assert [size(axis) for axis in made] == list(sizes)
    program.add(*made)
    program.note(f"reshape {sizes}", *axes, *made)
    program.law("reshape", lambda alive: outer(list(map(alive, axes))) == outer(list(map(alive, made))))


def tying(program):
    a = program.some()
    same = [axis for axis in program.axes if axis.shape[1] == a.shape[1] and axis is not a]
    b = program.pick([program.pick(same or [a])] * 6 + [program.some(), a.shape[1]])
    program.constraints.tie(a, b, "it is tied")
    program.note("tie", a, b)
    if size(a) == size(b):
        program.law("tie", lambda alive: alive(a) == alive(b))
    else:
        program.law("tie of different sizes", lambda alive: np.hstack([alive(a), alive(b)]))


def pinning(program):
    axis = program.some()
    position = select(axis, [program.pick(range(axis.shape[1]))])
    program.constraints.pin(position, "it is pinned")
    program.note("pin", position)
    program.law("pin", lambda alive: alive(position))


STEPS = [
    fresh, fresh, selecting, joining, stretching, merging, gridding, gridding, shuffling, regrouping, regrouping,
    reshaping, tying, tying, tying, tying, pinning,
]  # fmt: skip


def factorings(n, rank):
    """All sizes of a grid of n positions.

    >>> factorings(4, 2)
    [(1, 4), (2, 2), (4, 1)]
    """
    if rank == 1:
        return [(n,)]
    return [(d, *rest) for d in range(1, n + 1) if n % d == 0 for rest in factorings(n // d, rank - 1)]


def outer(parts):
    """The positions of a merged grid that stay, from the positions of its axes that stay; shape (worlds, positions)."""
    made = np.ones((len(parts[0]), 1), bool)
    for part in parts:
        made = (made[:, :, None] & part[:, None, :]).reshape(len(made), -1)
    return made


# --- worlds


def allowed_worlds(solution: Solution, choose):
    """`alive` for some worlds that the solution allows: nothing deleted, each free id alone, and those of `choose`."""
    free = np.setdiff1d(solution.table, [FIXED, *np.flatnonzero(solution.pinned())])
    dead = np.concatenate([np.zeros((1, len(free)), bool), np.eye(len(free), dtype=bool), choose(len(free))])
    final = np.ones((len(dead), solution.ids + 1), bool)
    final[:, free] = ~dead

    def alive(axis):
        if not has_ids(axis):
            return np.ones((len(final), size(axis)), bool)
        return final[:, solution.resolve(axis)].all(axis=1)

    return alive


def every_world(program):
    """`alive` for every choice of ids, without regard to the constraints."""
    ids = np.ones((2**program.constraints.count, program.constraints.count + 1), bool)
    ids[:, :-1] = every_choice(program.constraints.count)

    def alive(axis):
        return ids[:, axis].all(axis=1) if has_ids(axis) else np.ones((len(ids), size(axis)), bool)

    return alive


def every_choice(n):
    """All arrays of n bools, shape (2 ** n, n)."""
    return np.array(list(product([True, False], repeat=n)), bool).reshape(2**n, n)


def legal(program):
    """The channels that may stay while the others are deleted, by enumeration of the laws. A set of tuples of bools."""
    alive = every_world(program)
    holds = np.ones(2**program.constraints.count, bool)
    for _, law in program.laws:
        holds &= law(alive).all(axis=1)
    return set(map(tuple, np.hstack([alive(axis) for axis in program.producers])[holds].tolist()))


def allowed(program):
    """The channels that may stay while the others are deleted, by the solution. A set of tuples of bools."""
    alive = allowed_worlds(program.constraints.solve(), every_choice)
    return set(map(tuple, np.hstack([alive(axis) for axis in program.producers]).tolist()))


def broken_laws(program, choose):
    """The laws that a world which the solution allows breaks."""
    alive = allowed_worlds(program.constraints.solve(), choose)
    return [text for text, law in program.laws if not law(alive).all()]


@st.composite
def programs(draw, steps, ids=10**6):
    def pick(options):
        return options[draw(st.integers(0, len(options) - 1))]

    return Program(pick, draw(st.integers(1, steps)), ids)


def random_program(rng, steps, ids=10**6):
    """A program from Python's random numbers: faster than hypothesis where thousands are needed."""
    return Program(rng.choice, rng.randint(1, steps), ids)
