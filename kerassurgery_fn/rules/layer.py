"""What a rule is given: one call of a layer, and the words in which to say what it does to channels."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import count
from typing import Any

import numpy as np

from kerassurgery_fn.channels import Axis, Reason, has_ids, same_axis, size
from kerassurgery_fn.graph import STATE_WEIGHTS, TRAINED, Record, leaves
from kerassurgery_fn.rules.built_axes import built_axes
from kerassurgery_fn.rules.call_arguments import placed, signature_of
from kerassurgery_fn.rules.constrained import constraint_of
from kerassurgery_fn.rules.counts import Count, Size
from kerassurgery_fn.rules.findings import Addition, Findings, Inexact, Narrow, Producer, Tensor, Weight
from kerassurgery_fn.rules.registry import NoRule as NoRule
from kerassurgery_fn.rules.registry import key_of, rule_for
from kerassurgery_fn.values.frozen import Location, get_in

__all__ = [
    "ADAPTED", "STATE", "SWITCHES", "Inexact", "Layer", "Producer", "NoRule", "Findings", "Tensor", "Weight", "joined",
    "listed", "parts", "placed", "plain", "quantized", "summed_in",
]  # fmt: skip

SWITCHES = {"bias": "use_bias", "gamma": "scale", "beta": "center"}
STATE = {"moving_mean", "moving_variance", "moving_stddev", "renorm_mean", "renorm_stddev"}
ADAPTED = {"kernel", "embeddings"}
ADAPTERS = ("lora_kernel_a", "lora_kernel_b")  # in float32 whatever the policy
STATE |= {"mean", "variance", "count", "seed_generator_state", "vector_u"}


class Layer:
    """One call of a layer or operation, as its rule sees it. `layer["units"]` is a field of the layer's config."""

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
        self.node = node
        self.call_place: Location = (*where, "inbound_nodes", node[-1])
        self._part = part
        self._trains = bool(self.config.get("trainable", True))
        self._trained: Sequence[int] | None = record.get(TRAINED)
        self._state: Sequence[int] | None = record.get(STATE_WEIGHTS)
        self._kernel: Tensor = ()
        self._cursor, self._wrapped = cursor or count(), cursor is not None

    def __getitem__(self, name: str) -> Any:
        return self.config[name]

    def get(self, name: str, default: Any = None) -> Any:
        return self.config.get(name, default)

    def fresh(self, kind: str, place: Location | None = None) -> Axis:
        """The channels of a kind that this layer makes, as many as the field of that name in its config counts, or the
        number at a place in the config. They are the same ones at every call of the layer."""
        place = place or (kind,)
        axis = self.made(kind, lambda: self.findings.constraints.fresh(get_in(self.config, place)))
        self.size(place, axis)
        return axis

    def made(self, kind: str, make: Callable[[], Axis]) -> Axis:
        """The channels of a kind, made at the first call of the layer."""
        key = (self.path, f"{self._part}{kind}")
        if key not in self.findings.producers:
            self.findings.producers[key] = Producer(*key, make())
        return self.findings.producers[key].axis

    def size(self, place: str | Location, axis: Axis) -> None:
        """A field of the config, or a place in it, counts the positions of an axis."""
        self.states(place, Size(axis))

    def states(self, place: str | Location, what: Count) -> None:
        """A field of the config, or a place in it, states something of an axis."""
        if has_ids(what.axis):
            place = (place,) if isinstance(place, str) else place
            self.findings.sizes.setdefault((*self.where, "config", *place), what)

    def argues(self, place: Location, what: Count) -> None:
        """An argument of this call, at a place like `("args", 1, 0)`, states something of an axis."""
        if has_ids(what.axis):
            self.findings.sizes.setdefault((*self.call_place, *place), what)

    def weights(self, *, space: Sequence[Axis] = (), **spelled: Any) -> None:
        """The layer's weights in the order of `get_weights()`, spelled with a letter an axis.

        `layer.weights(kernel="..i>o", bias="o", space=(3, 3), i=x[-1], o=o)`: one-letter arguments say which axes the
        letters stand for, `..` stands for `space`, a digit for itself. An arrow points from the letters that are summed
        over to those that are made: `i>o`, `o<i`, or `>im` where nothing is; weights of one letter need none. A bias,
        gamma or beta that the config switches off is left out.
        """
        letters = {name: axis for name, axis in spelled.items() if len(name) == 1}
        for name, word in spelled.items():
            if len(name) > 1 and self.get(SWITCHES.get(name, ""), True):
                start, word = (tuple(space), word[2:]) if word.startswith("..") else ((), word)
                rest = tuple(int(c) if c.isdigit() else letters[c] for c in word if c not in "<>")
                window, summed = [i for i, axis in enumerate(start) if has_ids(axis)], summed_in(word)
                over = None if summed is None else [*window, *(len(start) + i for i in summed)]
                self.weight(name, start + rest, summed=over)

    def weight(self, name: str, axes: Tensor, root: Axis = None, summed: Iterable[int] | None = None) -> None:
        """The next weight of the layer. At a second call of the layer its axes are tied to those of the first."""
        known = self.findings.weights.setdefault(self.path, [])
        index = next(self._cursor)
        if frozen := name in ADAPTED and bool(self.get("lora_rank")):
            self._kernel = axes
        if index == len(known):
            is_state = name in STATE if self._state is None else index in self._state
            usual = self._trains and not is_state and not frozen
            trainable = usual if self._trained is None else index in self._trained
            over, bound = None if summed is None else tuple(summed), constraint_of(self.config, name, self._wrapped)
            known.append(Weight(name, tuple(axes), trainable, root, over, bound))
            if bound and not bound.shrinks:
                self.pin(root, f"would scale its {name}, which its {bound.title} constraint would undo in training")
            self.starts_as(f"{name}_initializer", axes)
            return
        for a, b in zip(known[index].axes, axes, strict=True):
            if not same_axis(a, b):
                self.tie(a, b, "is called several times, on different channels")

    def starts_as(self, field: str, axes: Tensor) -> None:
        """An array that the config has as the first value of a weight: Keras broadcasts it when it builds the layer."""
        match self.get(field):
            case {"class_name": "Constant", "config": {"value": {"config": {"value": [*_]}}}}:
                self.constant((field, "config", "value", "config", "value"), axes)
            case {"class_name": "Constant", "config": {"value": [*_]}}:
                self.constant((field, "config", "value"), axes)

    def constant(self, place: Location, axes: Tensor) -> None:
        """An array at a place in the config that Keras broadcasts to something with these axes: it is cut with them."""
        shape = np.shape(get_in(self.config, place))
        met = zip(shape, axes[len(axes) - len(shape) :], strict=True)
        self.findings.constants[(*self.where, "config", *place)] = tuple(axis if n > 1 else n for n, axis in met)

    def tie(self, a: Axis, b: Axis, reason: str = "joins it with positions that are no channels") -> None:
        """Position by position the same fate. If that cannot be, both are pinned for the reason."""
        self.findings.constraints.tie(a, b, self.reason(reason))

    def pin(self, axes: Axis | Sequence[Any], reason: str) -> None:
        """No position of an axis, or of any of several, can be cut."""
        for axis in axes if isinstance(axes, (tuple, list)) else [axes]:
            if isinstance(axis, (tuple, list)):
                self.pin(axis, reason)
            elif not isinstance(axis, Sequence):
                self.findings.constraints.pin(axis, self.reason(reason))

    def grid(self, axis: Axis, sizes: Sequence[int]) -> list[Axis]:
        """The axes of an axis seen as a grid."""
        return self.findings.constraints.grid(axis, sizes, self.reason("sees it as a grid across another grid"))

    def reshape(self, axes: Sequence[Axis], sizes: Sequence[int | None]) -> list[Axis]:
        """The axes of a reshaped tensor, sizes without the -1."""
        return self.findings.constraints.reshape(axes, sizes, self.reason("reshapes it in a way that mixes channels"))

    def inexact(self, axis: Axis, reason: str) -> None:
        """Cutting this axis changes more than what reads the channels that go."""
        if has_ids(axis):
            self.findings.inexact.append(Inexact(self.path, axis, reason))

    def narrow(self, axis: Axis) -> None:
        """The only position of this axis stands for all positions of an axis that it meets."""
        if has_ids(axis):
            self.findings.narrow.append(Narrow(self.path, axis))

    def adds(self, x1: Tensor, x2: Tensor, what: str) -> None:
        """The layer adds x2, in words `what`, to x1 with Keras' `ops.add`."""
        if any(map(has_ids, (*x1, *x2))):
            self.findings.additions.append(Addition(self.path, x1, x2, what))

    def reason(self, words: str) -> Reason:
        """This layer as the reason for a tie or a pin."""
        return Reason(words, self.path, self.record["class_name"])

    def inner(self, name: str | Location, part: str = "", kind: type[Layer] | None = None) -> Layer:
        """The layer that stands in a field of this one's config. Its weights follow those named so far.

        `part` sets the kinds of its channels apart from those of other inner layers: `forward.units`.
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
        inner._trained, inner._state = self._trained, self._state
        return inner

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The axes that this call makes, by the rule for the layer's class.

        Tensors that the rule takes as `*_` or `**_` (a mask, for one) it does not look at: they are pinned.

        Raises:
            NoRule: there is no rule for the class.
        """
        key, known = key_of(self.record), rule_for(self.record)
        if known.channels is None:
            raise NoRule(
                known.pins
                or f"is of the class {key}, which has no rule; teach it by a function under "
                f'@kerassurgery_fn.rule("{key}")'
            )
        if mode := quantized(self.get("dtype")):
            raise NoRule(f"is quantized ({mode}), and cut it would round otherwise; cut the model before quantize()")
        rule, (args, kwargs, surplus) = known.channels, placed(known.channels, args, kwargs)
        bound = signature_of(rule).bind(self, *args, **kwargs)
        self.findings.first.setdefault(self.where, (self.record, args, kwargs))
        for ignored in leaves([surplus, bound.arguments.get("_"), bound.arguments.get("__")]):
            self.pin(ignored, "reads it in a way that is not known to treat every channel alone")
        made = rule(self, *args, **kwargs)
        if self._kernel:
            self.adapters(self["lora_rank"])
        built = (*self.where, "build_config")
        if "build_config" in self.record and built not in self.findings.builds:  # the first call builds the layer
            config, weighted = self.record["build_config"] or {}, self.is_weighted
            self.findings.builds[built] = built_axes(config, bound.arguments, args, kwargs, weighted)
        return made

    def is_weighted(self, axis: Axis) -> bool:
        """Whether a weight of the layer has ids of an axis."""
        weights = self.findings.weights.get(self.path, ())
        others = [other for weight in weights for other in weight.axes if isinstance(other, np.ndarray)]
        return isinstance(axis, np.ndarray) and any(np.isin(axis, other).any() for other in others)

    def adapters(self, rank: int) -> None:
        """The two low-rank factors of what LoRA adds to the kernel."""
        *rows, columns = self._kernel
        for name, axes in zip(ADAPTERS, ((*rows, rank), (rank, columns)), strict=True):
            self.weight(name, axes)


def summed_in(word: str) -> list[int] | None:
    """The numbers of the axes that a spelling says are summed over; None where it does not say.

    >>> summed_in("i>o"), summed_in("o<i"), summed_in(">im"), summed_in("2g"), summed_in("io")
    ([0], [1], [], [], None)
    """
    left, right = (len(part) for part in word.replace("<", ">").partition(">")[::2])
    if ">" in word:
        return list(range(left))
    if "<" in word:
        return list(range(left, left + right))
    return [] if sum(map(str.isalpha, word)) < 2 else None


def quantized(dtype: Any) -> str:
    """The mode in which a dtype policy, or any in a map of them, quantizes; empty if none does.

    >>> quantized("float32"), quantized({"class_name": "QuantizedDTypePolicy", "config": {"mode": "int8"}})
    ('', 'int8')
    """
    if not isinstance(dtype, dict):
        return ""
    inner = (quantized(item) for item in dtype.values())
    return str(dtype.get("mode") or next(filter(None, inner), ""))


def parts(layer: Layer, x: Tensor) -> tuple[Axis, list[Axis], Axis]:
    """Batch, space and channel of a tensor in the layer's `data_format`."""
    if layer.get("data_format") == "channels_first":
        return x[0], list(x[2:]), x[1]
    return x[0], list(x[1:-1]), x[-1]


def joined(layer: Layer, batch: Axis, space: Sequence[Axis], channel: Axis) -> Tensor:
    """The tensor that `parts` takes apart."""
    if layer.get("data_format") == "channels_first":
        return (batch, channel, *space)
    return (batch, *space, channel)


def listed(value: Any) -> list[Any]:
    """A field that holds one thing or a list of them, as a list.

    >>> listed(2), listed([0, 1])
    ([2], [0, 1])
    """
    return list(value) if isinstance(value, (list, tuple)) else [value]


def plain(layer: Layer, axes: Sequence[Axis], verb: str) -> list[int | None]:
    """The sizes of axes that the layer mixes, so that none of their positions can be cut."""
    layer.pin(list(axes), f"{verb} along it")
    return [size(axis) for axis in axes]
