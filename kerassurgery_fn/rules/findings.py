"""What rules say of a model on a walk through it."""

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
    """A weight of a layer: its name in Keras, its axes, and whether training changes it.

    `root` is an axis whose size the layer divides by the root of: where it gets shorter the weight makes up for it.
    `summed` has the numbers of the axes along which products with what the layer reads are summed up; None where the
    rule does not say. `constraint` is what Keras applies to the weight after every training step.
    """

    name: str
    axes: Tensor
    trainable: bool
    root: Axis = None
    summed: tuple[int, ...] | None = None
    constraint: Constraint | None = None


class Producer(NamedTuple):
    """Channels that a layer makes: whose, of which kind (the field of the config that counts them), and their map."""

    path: str
    kind: str
    axis: Axis


class Inexact(NamedTuple):
    """Channels after whose deletion the rest of the model does not compute just what it did, and why."""

    path: str
    axis: Axis
    reason: str


class Narrow(NamedTuple):
    """The only position of an axis, which a layer broadcasts to the positions of another axis."""

    path: str
    axis: Axis


class Addition(NamedTuple):
    """Two tensors that a layer adds with Keras' `ops.add`; `what` names the second one in words."""

    path: str
    x1: Tensor
    x2: Tensor
    what: str


@dataclass
class Findings:
    """All that the rules say on a walk through a model, and the way into the models that layers wrap."""

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
    opened: Mapping[str, int] = field(default_factory=dict)  # path of an input -> the axis whose channels have ids
