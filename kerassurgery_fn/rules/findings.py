"""The results of rules on a walk through a model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from kerassurgery_fn.channels import Axis, Constraints
from kerassurgery_fn.graph import Record
from kerassurgery_fn.rules.constrained import Constraint
from kerassurgery_fn.rules.counts import Count
from kerassurgery_fn.values.frozen import Location

Tensor = tuple[Axis, ...]
First = tuple[Record, Any, Any]  # a layer's record, and the arguments of its first call


class Weight(NamedTuple):
    """A weight of a layer.

    - `name`, `axes`: its name in Keras and its axes;
    - `trainable`: whether training changes it;
    - `root`: an axis of size n, if the layer scales its output by 1/sqrt(n). When n changes, the weight is scaled to
      make up for it;
    - `summed`: the numbers of the axes that the layer sums over; None if the rule does not state them;
    - `constraint`: the constraint that Keras applies to the weight after every training step.
    """

    name: str
    axes: Tensor
    trainable: bool
    root: Axis = None
    summed: tuple[int, ...] | None = None
    constraint: Constraint | None = None


class Producer(NamedTuple):
    """Channels that a layer creates: its path, the config field that counts the channels, and their axis."""

    path: str
    kind: str
    axis: Axis


class Inexact(NamedTuple):
    """An axis whose cut is not exact, the layer that is the cause, and the reason."""

    path: str
    axis: Axis
    reason: str


class Narrow(NamedTuple):
    """An axis with one position, which a layer broadcasts to all positions of another axis."""

    path: str
    axis: Axis


class Addition(NamedTuple):
    """Two tensors that a layer adds with Keras' `ops.add`; `what` names the second tensor in messages."""

    path: str
    x1: Tensor
    x2: Tensor
    what: str


@dataclass
class Findings:
    """The results of all rules on a walk through a model.

    - `enter`: (place of a wrapped model, node, axes of its input) -> axes of its output: the walk through the model;
    - `constraints`: which ids are equal or pinned;
    - `producers`: (path, kind) -> the channels that the layer creates;
    - `weights`: path -> the weights of the layer;
    - `sizes`: place in the record -> the number there, which depends on an axis;
    - `builds`: place of a `build_config` -> the axes of its shapes;
    - `first`: place of a layer's record -> the first call of the layer;
    - `constants`: place of an array in the record -> its axes;
    - `copies`: place of a number in a config -> the axis of equal positions that it counts;
    - `inexact`, `narrow`, `additions`: see `Inexact`, `Narrow` and `Addition`;
    - `opaque`: path of a layer that no rule can follow -> why, in words.
    """

    enter: Callable[[Location, tuple[int, ...], Tensor], Tensor]
    constraints: Constraints = field(default_factory=Constraints)
    producers: dict[tuple[str, str], Producer] = field(default_factory=dict)
    weights: dict[str, list[Weight]] = field(default_factory=dict)
    sizes: dict[Location, Count] = field(default_factory=dict)
    builds: dict[Location, Any] = field(default_factory=dict)
    first: dict[Location, First] = field(default_factory=dict)
    constants: dict[Location, Tensor] = field(default_factory=dict)
    copies: dict[Location, Axis] = field(default_factory=dict)
    inexact: list[Inexact] = field(default_factory=list)
    narrow: list[Narrow] = field(default_factory=list)
    additions: list[Addition] = field(default_factory=list)
    opaque: dict[str, str] = field(default_factory=dict)
    # (Path, kind) of the channels of inputs and of the rows that have ids -> the axis of the input; 0 for rows.
    opened: Mapping[tuple[str, str], int] = field(default_factory=dict)
    numbered: dict[tuple[str, str], Axis] = field(
        default_factory=dict
    )  # (path, kind) of rows -> the axis of the values
