"""Checks for additions that Keras on TensorFlow computes along another axis than broadcasting does.

`keras.ops.add(x1, x2)` treats x2 as a bias if only one axis of x2 has several positions. It then adds x2 along the last
axis of x1 if that has as many positions, otherwise along axis 1 if that has, wherever the axis is in x2:

    x1 (batch, 3 steps, 3 heads, 1) + x2 (3 heads, 1): added along the steps

So a cut can turn a right addition into a wrong one: if it cuts the size of a head to 1, or the number of channels to
the width of an image.
"""

from __future__ import annotations

from collections.abc import Callable

from kerassurgery_fn.analysis.channel_flow import Flow
from kerassurgery_fn.channels import Axis, size
from kerassurgery_fn.edits.steps.axis_places import Sources
from kerassurgery_fn.errors import PinnedChannels
from kerassurgery_fn.rules.findings import Addition, Tensor

Shape = tuple[int | None, ...]
Sizes = Callable[[Axis], int | None]
RIGHT, PERHAPS, WRONG = range(3)  # whether Keras adds along another axis: never, for some open sizes, always


def refuse_misplaced(flow: Flow, sources: Sources, verb: str = "deleted", sizes: Sizes = size) -> None:
    """Raises PinnedChannels if Keras would add tensors along a wrong axis after an edit, or does so already.

    Args:
        flow: the channels before the edit.
        sources: axis -> the old position of each new position.
        verb: what the edit does to channels, in words.
        sizes: axis -> the number of its positions before the edit.
    """
    for addition in flow.additions:
        refuse_misplaced_addition(addition, sources, verb, sizes)


def refuse_misplaced_addition(addition: Addition, sources: Sources, verb: str = "deleted", sizes: Sizes = size) -> None:
    """Raises PinnedChannels for one addition, see `refuse_misplaced`."""
    if all(sources(axis) is None for axis in (*addition.x1, *addition.x2)):
        return
    after = [_shape(x, sources, sizes) for x in (addition.x1, addition.x2)]
    before = [tuple(map(sizes, x)) for x in (addition.x1, addition.x2)]
    was, now = misplaced(*before), misplaced(*after)
    if 0 in after[0] or (now != WRONG and was != WRONG and now <= was):
        return
    (x1, x2), when = (before, "adds") if was == WRONG else (after, "would then add")
    raise PinnedChannels(
        f"channels of layer {addition.path!r} cannot be {verb}: Keras on TensorFlow {when} {addition.what}, of shape "
        f"{x2}, to a tensor of shape {x1} along {_mistaken(x1, x2)} in place of axis {_meant(x1, x2)}. "
        f"{_way_out(was)}"
    )


def _way_out(was: int) -> str:
    if was == WRONG:
        return "Change the size of that axis, or build the layer without a bias, before the cut."
    return "Keep one channel more or fewer; keep two on an axis that would be left with one."


def misplaced(x1: Shape, x2: Shape) -> int:
    """Whether `keras.ops.add` on TensorFlow adds x2 to x1 along another axis than broadcasting does.

    >>> misplaced((None, 3, 3, 1), (3, 1)), misplaced((None, 4, 3, 1), (3, 1)), misplaced((None, None, 3, 1), (3, 1))
    (2, 0, 1)
    """
    axes = _wide(x1, x2)
    if len(axes) != 1 or len(x2) > len(x1) or len(x1) < 2 or (n := x2[axes[0]]) is None:
        return RIGHT
    for axis in (len(x1) - 1, 1):
        if axis == _meant(x1, x2) and x1[axis] in (n, None):
            return RIGHT
        if x1[axis] == n:
            return PERHAPS if len(x2) == len(x1) and x2[0] is None else WRONG
        if x1[axis] is None:
            return PERHAPS
    return RIGHT


def _wide(x1: Shape, x2: Shape) -> list[int]:
    """The axes of x2 with several positions. A batch axis of open size does not count."""
    return [i for i, n in enumerate(x2) if n != 1 and not (n is None and i == 0 and len(x2) == len(x1))]


def _meant(x1: Shape, x2: Shape) -> int:
    """The axis of x1 along which broadcasting adds the only wide axis of x2."""
    return len(x1) - len(x2) + _wide(x1, x2)[0]


def _mistaken(x1: Shape, x2: Shape) -> str:
    """The axis along which Keras adds x2 instead, or may add it, in words."""
    n, last = x2[_wide(x1, x2)[0]], len(x1) - 1
    axis = last if x1[last] in (n, None) and last != _meant(x1, x2) else 1
    return f"axis {axis}" if x1[axis] == n else f"axis {axis} where that has the size {n}"


def _shape(x: Tensor, sources: Sources, sizes: Sizes) -> Shape:
    return tuple([sizes(axis) if (kept := sources(axis)) is None else len(kept) for axis in x])
