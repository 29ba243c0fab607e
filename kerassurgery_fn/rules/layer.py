"""`Layer`: one call of a layer or operation, with the methods by which a rule states what the call does to channels.

The rule of Dense shows the usual steps. `inputs` is a tuple of axes, one for each axis of the tensor:

    def dense(layer, inputs, **_):
        o = layer.fresh("units")                                      the channels that the layer creates
        layer.weights(kernel="i>o", bias="o", i=inputs[-1], o=o)      the axes of its weights
        return activated(layer, (*inputs[:-1], o))                    the axes of its output
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import count
from typing import Any

import numpy as np

from kerassurgery_fn.channels import Axis, Reason, has_ids, same_axis
from kerassurgery_fn.graph import MEASURED, STATE_WEIGHTS, TRAINED, WEIGHTS_BY_NAME, Record, leaves
from kerassurgery_fn.rules.built_axes import built_axes
from kerassurgery_fn.rules.call_arguments import ignored, placed
from kerassurgery_fn.rules.config_values import quantized
from kerassurgery_fn.rules.constrained import constraint_of
from kerassurgery_fn.rules.counts import Count, Size
from kerassurgery_fn.rules.findings import Addition, Findings, Inexact, Narrow, Producer, Tensor, Weight
from kerassurgery_fn.rules.registry import NoRule as NoRule
from kerassurgery_fn.rules.registry import key_of, rule_for
from kerassurgery_fn.rules.weight_spelling import spelling
from kerassurgery_fn.values.frozen import Location, get_in
from kerassurgery_fn.values.named_tuples import new

__all__ = [
    "ADAPTED", "STATE", "SWITCHES", "Inexact", "Layer", "Producer", "NoRule", "Findings", "Tensor", "Weight", "placed",
]  # fmt: skip

SWITCHES = {"bias": "use_bias", "gamma": "scale", "beta": "center"}
STATE = {"moving_mean", "moving_variance", "moving_stddev", "renorm_mean", "renorm_stddev"}
ADAPTED = {"kernel", "embeddings"}
ADAPTERS = ("lora_kernel_a", "lora_kernel_b")  # Keras stores them in float32 under every policy
STATE |= {"mean", "variance", "count", "seed_generator_state", "vector_u"}


class Layer:
    """One call of a layer or operation. `layer["units"]` is a field of the layer's config."""

    def __init__(
        self,
        findings: Findings,
        path: str,
        where: Location,
        record: Record,
        node: tuple[int, ...] = (0,),
        part: str = "",
        cursor: Iterator[int] | None = None,
    ):
        self.findings, self.path, self.where, self.record = findings, path, where, record
        self.config: Mapping[str, Any] = record["config"]
        self.get = self.config.get  # a field of the config, or a default
        self.node = node
        self._part = part
        self._trains = bool(self.config.get("trainable", True))
        self._trained: Sequence[int] | None = record.get(TRAINED)
        self._state: Sequence[int] | None = record.get(STATE_WEIGHTS)
        self.measured: Mapping[str, Any] = record.get(MEASURED) or {}
        self._kernel: Tensor = ()
        self._cursor, self._wrapped = cursor or count(), cursor is not None

    @property
    def call_place(self) -> Location:
        """The place of this call in the record of the model."""
        return (*self.where, "inbound_nodes", self.node[-1])

    def __getitem__(self, name: str) -> Any:
        return self.config[name]

    def fresh(self, kind: str, place: Location | None = None) -> Axis:
        """The channels of a kind that the layer creates. They are the same at every call of the layer.

        Args:
            kind: the field of the config that counts these channels, and the name of their kind.
            place: the place in the config of the number of these channels, if it is not the field `kind`.
        """
        place = place or (kind,)
        axis = self.made(kind, self.findings.constraints.fresh, get_in(self.config, place))
        self.size(place, axis)
        return axis

    def rows(self, kind: str) -> Axis:
        """The axis of the values of the layer's integer input, for each of which the layer has a row or a position. The
        config field `kind` is the number of values. They have ids if an edit names them."""
        if (self.path, kind) not in self.findings.opened:
            n: int = self[kind]
            return n
        rows = self.findings.numbered[self.path, kind] = self.fresh(kind)
        reason = self.reason("has a row for each value of its input, and the values would get new numbers")
        self.findings.constraints.pin(rows, reason, input=True)
        return rows

    def made(self, kind: str, make: Callable[..., Axis], *args: Any) -> Axis:
        """The channels of a kind, which a function creates at the first call of the layer."""
        kind = self._part + kind
        producer = self.findings.producers.get((self.path, kind))
        if producer is None:
            producer = Producer(self.path, kind, make(*args))
            self.findings.producers[self.path, kind] = producer
        return producer.axis

    def size(self, place: str | Location, axis: Axis) -> None:
        """States that a field of the config, or a place in it, counts the positions of an axis."""
        if has_ids(axis):
            self.states(place, Size(axis))

    def states(self, place: str | Location, what: Count) -> None:
        """States that a field of the config, or a place in it, depends on an axis."""
        if has_ids(what.axis):
            place = (place,) if isinstance(place, str) else place
            self.findings.sizes.setdefault((*self.where, "config", *place), what)

    def argues(self, place: Location, what: Count) -> None:
        """States that an argument of this call, at a place such as `("args", 1, 0)`, depends on an axis."""
        if has_ids(what.axis):
            self.findings.sizes.setdefault((*self.call_place, *place), what)

    def weights(self, *, space: Sequence[Axis] = (), **spelled: Any) -> None:
        """States the axes of the layer's weights, in the order of `get_weights()`, with a letter for each axis.

            layer.weights(kernel="..i>o", bias="o", space=(3, 3), i=x[-1], o=o)

        A one-letter argument gives the axis of a letter. `..` stands for the axes in `space`, a digit for an axis of
        that size. The arrow points from the axes that the layer sums over to the other axes: `i>o`, `o<i`, or `>im`
        without a sum. A weight with one letter needs no arrow. A bias, gamma or beta that the config switches off is
        skipped.
        """
        for name, word in spelled.items():
            if len(name) > 1 and (name not in SWITCHES or self.get(SWITCHES[name], True)):
                has_space, letters, summed = spelling(word)
                rest = tuple([spelled[c] if isinstance(c, str) else c for c in letters])
                if not has_space:
                    self.weight(name, rest, summed=summed)
                    continue
                window = [i for i, axis in enumerate(space) if isinstance(axis, np.ndarray)]
                over = None if summed is None else [*window, *[len(space) + i for i in summed]]
                self.weight(name, (*space, *rest), summed=over)

    def weight(self, name: str, axes: Tensor, root: Axis = None, summed: Iterable[int] | None = None) -> None:
        """States the axes of the next weight of the layer. At later calls of the layer, the axes are tied to those of
        the first call.

        Args:
            name: the name of the weight in Keras.
            axes: its axes.
            root: an axis of size n, if the layer scales its output by 1/sqrt(n).
            summed: the numbers of the axes that the layer sums over; None if that is not known.
        """
        known = self.findings.weights.setdefault(self.path, [])
        index = next(self._cursor)
        if frozen := name in ADAPTED and bool(self.get("lora_rank")):
            self._kernel = axes
        if index == len(known):
            is_state = name in STATE if self._state is None else index in self._state
            usual = self._trains and not is_state and not frozen
            trainable = usual if self._trained is None else index in self._trained
            over, bound = None if summed is None else tuple(summed), constraint_of(self.config, name, self._wrapped)
            known.append(new(Weight, (name, tuple(axes), trainable, root, over, bound)))
            if bound and not bound.shrinks:
                self.pin(root, f"would scale its {name}, which its {bound.title} constraint would undo in training")
            self.starts_as(f"{name}_initializer", axes)
            return
        for a, b in zip(known[index].axes, axes, strict=True):
            if not same_axis(a, b):
                self.tie(a, b, "is called several times, on different channels")

    def starts_as(self, field: str, axes: Tensor) -> None:
        """States the axes of the array of a Constant initializer in the config. Keras broadcasts it to the weight."""
        initializer = self.get(field)
        if not isinstance(initializer, dict) or initializer.get("class_name") != "Constant":
            return
        match initializer:
            case {"class_name": "Constant", "config": {"value": {"config": {"value": [*_]}}}}:
                self.constant((field, "config", "value", "config", "value"), axes)
            case {"class_name": "Constant", "config": {"value": [*_]}}:
                self.constant((field, "config", "value"), axes)

    def constant(self, place: Location, axes: Tensor) -> None:
        """States that Keras broadcasts an array in the config to a tensor or weight with these axes. The array is cut
        along these axes."""
        shape = np.shape(get_in(self.config, place))
        met = zip(shape, axes[len(axes) - len(shape) :], strict=True)
        self.findings.constants[(*self.where, "config", *place)] = tuple(axis if n > 1 else n for n, axis in met)

    def tie(self, a: Axis, b: Axis, reason: str = "joins it with positions that are not channels") -> None:
        """Ties two axes: a position of one is deleted if and only if the same position of the other is.

        If their sizes differ, or one has no channels, both are pinned for the reason.
        """
        if a is not b:
            self.findings.constraints.tie(a, b, self.reason(reason))

    def pin(self, axes: Axis | Sequence[Any], reason: str) -> None:
        """Pins axes: none of their positions can be deleted. The axes can be in nested lists and tuples."""
        if isinstance(axes, np.ndarray):
            self.findings.constraints.pin(axes, self.reason(reason))
        elif isinstance(axes, (tuple, list)):
            for axis in axes:
                if isinstance(axis, (np.ndarray, tuple, list)):
                    self.pin(axis, reason)

    def grid(self, axis: Axis, sizes: Sequence[int]) -> list[Axis]:
        """The axes of the grid into which the layer reshapes one axis, such as (heads, places in a head)."""
        return self.findings.constraints.grid(axis, sizes, self.reason("reshapes it to a grid across another grid"))

    def reshape(self, axes: Sequence[Axis], sizes: Sequence[int | None]) -> list[Axis]:
        """The axes of a tensor after a reshape to some sizes, in which no size is -1."""
        return self.findings.constraints.reshape(axes, sizes, self.reason("reshapes it in a way that mixes channels"))

    def inexact(self, axis: Axis, reason: str) -> None:
        """States that a cut of this axis is not exact: it differs from zeroing the readers of the channels."""
        if has_ids(axis):
            self.findings.inexact.append(Inexact(self.path, axis, reason))

    def narrow(self, axis: Axis) -> None:
        """States that this axis has one position, which is broadcast to all positions of another axis."""
        if has_ids(axis):
            self.findings.narrow.append(Narrow(self.path, axis))

    def adds(self, x1: Tensor, x2: Tensor, what: str) -> None:
        """States that the layer adds x2 to x1 with Keras' `ops.add`. `what` names x2 in messages."""
        if any(map(has_ids, (*x1, *x2))):
            self.findings.additions.append(Addition(self.path, x1, x2, what))

    def reason(self, words: str) -> Reason:
        """The reason for a tie or a pin by this layer."""
        return Reason(words, self.path, self.record["class_name"])

    def inner(self, name: str | Location, part: str = "", kind: type[Layer] | None = None) -> Layer:
        """The layer in a field of this layer's config. Its weights follow the weights that are stated so far.

        Args:
            name: the field, or the place in the config.
            part: a prefix for the kinds of its channels, as in `forward.units`, if there are several inner layers.
            kind: the class of the result, by default `Layer`.
        """
        place = (name,) if isinstance(name, str) else name
        record: Any = self.config
        for key in place:
            record = record[key]
        part = f"{self._part}{part}." if part else self._part
        inner = (kind or Layer)(
            self.findings, self.path, (*self.where, "config", *place), record, self.node, part, self._cursor
        )
        inner._trains = inner._trains and self._trains
        inner._trained, inner._state, inner.measured = self._trained, self._state, self.measured
        return inner

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The axes of the outputs of this call, by the rule for the layer's class.

        Tensors that the rule takes as `*_` or `**_`, such as a mask, are pinned, because the rule does not use them.

        Raises:
            NoRule: there is no rule for the class.
        """
        known = rule_for(self.record)
        if known.channels is None:
            key = key_of(self.record)
            raise NoRule(
                known.pins
                or f"is of the class {key}, which has no rule; add one by a function under "
                f'@kerassurgery_fn.rule("{key}")'
            )
        if self.record.get(WEIGHTS_BY_NAME):
            raise NoRule(
                "was read from a file, which does not say the order of its weights; state it in its rule, as in "
                'rule(..., sublayers=("first", "second")), and read the file again'
            )
        if mode := quantized(self.get("dtype")):
            raise NoRule(f"is quantized ({mode}), and a cut would change its rounding; cut the model before quantize()")
        rule, (args, kwargs, unused) = known.channels, placed(known.channels, args, kwargs)
        self.findings.first.setdefault(self.where, (self.record, args, kwargs))
        for argument in (*unused, *ignored(rule, args, kwargs)):
            self.pin(leaves(argument), "reads it in a way that is not known to treat every channel alone")
        outputs = rule(self, *args, **kwargs)
        if self._kernel:
            self.adapters(self["lora_rank"])
        if "build_config" in self.record and (built := (*self.where, "build_config")) not in self.findings.builds:
            config = self.record["build_config"] or {}  # the first call builds the layer
            self.findings.builds[built] = built_axes(config, rule, args, kwargs, self.is_weighted)
        return outputs

    def is_weighted(self, axis: Axis) -> bool:
        """Whether a weight of the layer has channels of an axis."""
        weights = self.findings.weights.get(self.path, ())
        others = [other for weight in weights for other in weight.axes if isinstance(other, np.ndarray)]
        return isinstance(axis, np.ndarray) and any(np.isin(axis, other).any() for other in others)

    def adapters(self, rank: int) -> None:
        """States the axes of the two low-rank factors that LoRA adds to a kernel."""
        *rows, columns = self._kernel
        for name, axes in zip(ADAPTERS, ((*rows, rank), (rank, columns)), strict=True):
            self.weight(name, axes)
