"""The table of layer classes and operations: one record for each, with all that the library knows about it.

To support a class, write one function under `@rule(...)` in the file of its family, and add one row to its test. The
function is the layer's call on channel maps instead of tensors: it takes the `Layer` and the arguments of the call,
with a tuple of axes in place of every tensor, and returns the axes of the outputs. The arguments of `rule` are the
other fields of the record; a field that is left out has the value that is right for most classes. The record of a
layer that adds a trained offset to each channel, and computes nothing across channels:

>>> @rule("mine>Offset", last=lambda config: "linear", equal_channels=True)
... def offset(layer, inputs, **_):
...     layer.weights(offset="c", c=inputs[-1])
...     return inputs
>>> RULES.pop("mine>Offset").equal_channels
True
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from functools import wraps
from itertools import count
from typing import Any, Literal, NamedTuple

from kerassurgery_fn.arguments import as_function, as_string, meant, takes
from kerassurgery_fn.errors import UnknownField
from kerassurgery_fn.rules.strictness import is_strict

Channels = Callable[..., Any]
Config = Mapping[str, Any]
LAYERS = ("keras.layers", "keras.src.layers", "keras._legacy.layers", "keras.src.legacy.layers")
OPERATIONS = ("keras.src.ops", "keras.ops", "keras.src.activations", "keras.src.quantizers")


class NoRule(Exception):
    """A class that the library knows nothing about, or a use of a known class that it cannot follow."""


class Kernel(NamedTuple):
    """Where the last kernel of a layer is among its weights, and along which axes of it the output channels lie."""

    slot: int
    axes: tuple[int, ...]


class Vocabulary(NamedTuple):
    """The vocabulary of a lookup layer, which a file has as an asset.

    - `of_integers`: whether its tokens are integers, not strings;
    - `pads_with`: the token for padding; None if the config states it;
    - `inner`: the attribute of the layer that contains another lookup layer with the same vocabulary, if any.
    """

    of_integers: bool = False
    pads_with: str | None = None
    inner: str = ""


@dataclass(frozen=True)
class Rule:
    """All that the library knows about a class of layers or operations.

    Channels:

    - `channels`: the call of a layer on channel maps; None where no function can follow what the class does;
    - `pins`: why there is no such function;
    - `approximate`: where a cut is not exact and why, for the table of supported classes; empty if it is exact;
    - `equal_channels`: whether equal input channels give equal output channels, and the layer sums over channels only
      with its own weights, so that a channel may be copied;
    - `merges`: how the class combines its inputs if it can do without some of them: it `joins` them along an axis, or
      it `sums` them.

    What a layer computes:

    - `last`: config -> the activation that the layer applies last to all of its output: its name, its record, or the
      record of an inner layer. None where that is not known;
    - `broadcasts`: whether an operation combines its tensors element by element and aligns them at their last axes;
    - `macs`: (use, shapes of the arguments) -> the multiply-accumulates of a call. None: every element of the kernels
      is used once for each position of the output;
    - `deepens`: the number of spatial axes of the kernel, if the layer can start as the identity; None if it cannot;
    - `folds`: the kernel that can take over a batch normalisation behind the layer; None if no kernel can;
    - `foldable`: whether the layer is a normalisation that scales and shifts each channel by its own statistics;
    - `masks`: what the class does with the mask of its input, see `mask_rules`; None if it drops the mask;
    - `makes_mask`: config -> whether the layer creates a mask;
    - `dtype`: the dtype of the output. It is the `computed` one of the layer's policy, that of the `input` if this is
      an integer, that of the elements which the operation has `moved`, the one to which the operands are `promoted`,
      or that of the operands after the first, which `selects` among them.

    How a layer is called:

    - `arguments`: the tensors that a call takes by position, in their order. None: only the layer knows;
    - `keywords`: further arguments that it takes by name;
    - `takes`: whether the first argument is one `tensor`, a `list` of tensors, or `either`, each of which it hands on;
    - `added`: the keyword arguments that Keras writes into a call where they are not given;
    - `states`: the number of tensors in `initial_state`; None if it has no fixed number.

    What a layer requires:

    - `needs_floats`: whether TensorFlow cannot compute the layer on integers, or config -> that;
    - `rank`: the number of axes of its input, or config -> that number; None if it is open;
    - `least_rank`: the least number of axes, likewise;
    - `fixed_rank`: whether a layer that is built takes tensors of the same rank only;
    - `new_axis`: whether `axis` counts an axis that the input does not have yet;
    - `requires`: checks of the sizes of its inputs, see `size_checks`;
    - `ranges`: config field -> whether it can have a value, where the class differs from others with that field.

    What its record states:

    - `built`: whether `build_config` states the shape for which the layer was built, or the names of the arguments
      whose shapes it states. Keras writes none for a layer that needs no building;
    - `derived_config`: (config, axes of the first input) -> the config fields that Keras works out as it builds;
    - `sublayers`: config -> the weights of the layer itself and those of its sublayers, see `weight_groups`; None if
      all weights are its own;
    - `vocabulary`: the vocabulary of a lookup layer, see `Vocabulary`;
    - `stated_shape`: (config, shape of the output) -> the shape as Keras states it, some sizes left open;
    - `states_dtype`: whether the config has a dtype where other layers have a policy;
    - `unbuildable`: config -> why Keras cannot build a layer from this config, although it wrote it; empty if it can.

    >>> Rule(rank=4, equal_channels=True)
    Rule(equal_channels=True, rank=4)
    """

    channels: Channels | None = None
    pins: str = ""
    approximate: str = ""
    equal_channels: bool = False
    merges: Literal["", "joins", "sums"] = ""

    last: Callable[[Config], Any] | None = None
    broadcasts: bool = False
    macs: Callable[..., int] | None = None
    deepens: int | None = None
    folds: Kernel | None = None
    foldable: bool = False
    masks: Callable[[Any], list[Any]] | None = None
    makes_mask: Callable[[Config], bool] | None = None
    dtype: Literal["computed", "input", "moved", "promoted", "selects"] = "computed"

    arguments: tuple[str, ...] | None = ("inputs",)
    keywords: tuple[str, ...] = ()
    takes: Literal["tensor", "list", "either"] = "tensor"
    added: Mapping[str, Any] = field(default_factory=dict)
    states: int | None = None

    needs_floats: bool | Callable[[Config], bool] = False
    rank: int | Callable[[Config], int | None] | None = None
    least_rank: int | Callable[[Config], int] = 0
    fixed_rank: bool = False
    new_axis: bool = False
    requires: tuple[Callable[..., None], ...] = ()
    ranges: Mapping[str, Callable[[Any], bool]] = field(default_factory=dict)

    built: bool | tuple[str, ...] = True
    derived_config: Callable[[Config, Any], dict[str, Any]] | None = None
    sublayers: Callable[[Config], Any] | None = None
    vocabulary: Vocabulary | None = None
    stated_shape: Callable[[Config, Any], Any] | None = None
    states_dtype: bool = False
    unbuildable: Callable[[Config], str] | None = None

    def __repr__(self) -> str:
        """The fields that differ from the default."""
        defaults = vars(Rule())
        known = {name: value for name, value in vars(self).items() if value != defaults[name]}
        return f"Rule({', '.join(f'{name}={_shown(value)}' for name, value in known.items())})"


def _shown(value: Any) -> str:
    """A value of a field; a function by its name."""
    if isinstance(value, tuple) and any(map(callable, value)):
        return f"({', '.join(map(_shown, value))})"
    return getattr(value, "__name__", repr(value))


class RuleTable(dict[str, Rule]):
    """The records by class. Every change gives the table a new version, which no table has had before.

    >>> table = RuleTable()
    >>> before = table.version
    >>> table.update(Gate=Rule())
    >>> table.version > before
    True
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.version = next(_VERSIONS)


_VERSIONS = count()


def _counted(name: str) -> Callable[..., Any]:
    """The method of a dict which changes it, followed by a new version of the table."""
    change = getattr(dict, name)

    @wraps(change)
    def counted(self: RuleTable, *args: Any, **kwargs: Any) -> Any:
        try:
            return change(self, *args, **kwargs)
        finally:  # after the change: what was computed meanwhile counts as of the version before
            self.version = next(_VERSIONS)

    return counted


for _name in ("__setitem__", "__delitem__", "__ior__", "clear", "pop", "popitem", "setdefault", "update"):
    setattr(RuleTable, _name, _counted(_name))

UNKNOWN = Rule(arguments=None)
RULES = RuleTable()


def state_of_rules() -> tuple[int, bool]:
    """What an analysis depends on beside the snapshot: the version of the rules, and whether they are strict."""
    return RULES.version, is_strict()


def rule_for(record: Mapping[str, Any]) -> Rule:
    """The rule for the class of a layer's record; one without any knowledge for a class that has none.

    >>> rule_for({"module": "mine", "class_name": "Gate", "config": {}}) == UNKNOWN
    True
    """
    return RULES.get(key_of(record), UNKNOWN)


@takes(classes=as_string)
def rule(*classes: str, **known: Any) -> Callable[[Channels], Channels]:
    """Registers the record of classes of layers; the function below it is their call on channel maps.

    Args:
        *classes: names under which a rule is looked up, see `key_of`: `Dense` for a layer of Keras, `ops.Matmul` for
            an operation, `package>Class` for a layer registered with `keras.saving.register_keras_serializable`.
        **known: the other fields of the record, see `Rule`. Those that layers of one's own need most:
            `approximate`, where a cut is not exact and why, in words; `last`, config -> the activation that the layer
            applies last to all of its output, such as `lambda config: config["activation"]`; `equal_channels=True`
            if channels may be copied.

    Raises:
        UnknownField: a record has no such field.
        BadValue: a class name or `approximate` is not a string.
    """

    def register(function: Channels) -> Channels:
        RULES.update(dict.fromkeys(classes, _record(classes, channels=as_function(function, "a rule"), **known)))
        return function

    _record(classes, **known)
    return register


def pins(reason: str, *classes: str, **known: Any) -> None:
    """Registers classes for which no call on channel maps can be written: they pin all channels that they touch.

    Args:
        reason: why, in words that follow the name of the class.
        *classes, **known: as for `rule`.
    """
    RULES.update(dict.fromkeys(classes, _record(classes, pins=reason, **known)))


def _record(classes: tuple[str, ...], **known: Any) -> Rule:
    names = [each.name for each in fields(Rule)]
    if unknown := [name for name in known if name not in names]:
        raise UnknownField(
            f"the rule for {', '.join(classes)}: a record has no field {unknown[0]!r}; {meant(unknown[0], names)}"
        )
    as_string(known.get("approximate", ""), "approximate")
    # What arguments operations and classes of other packages take is known to them alone.
    is_open = all(name.startswith("ops.") or ">" in name for name in classes)
    return Rule(**{**({"arguments": None} if is_open else {}), **known})


def key_of(record: Mapping[str, Any]) -> str:
    """The name under which the rule for a record is looked up.

    >>> key_of({"module": "keras.layers", "class_name": "Add", "registered_name": None})
    'Add'
    >>> key_of({"module": "keras._legacy.layers", "class_name": "AlphaDropout", "registered_name": None})
    'AlphaDropout'
    >>> key_of({"module": "keras.src.ops.numpy", "class_name": "Add", "registered_name": "Add"})
    'ops.Add'
    >>> key_of({"module": "mine", "class_name": "Gate", "registered_name": "pack>Gate"})
    'pack>Gate'
    >>> key_of({"module": "mine", "class_name": "Dense", "registered_name": "Dense"})
    'mine>Dense'
    >>> key_of({"module": "keras.src.activations.activations", "class_name": "ReLU", "registered_name": "ReLU"})
    'ops.ReLU'
    """
    module, name = record.get("module") or "", record["class_name"]
    registered = record.get("registered_name") or ""
    if ">" in registered:
        return registered
    if module.startswith(OPERATIONS):
        return f"ops.{name}"
    return name if module.startswith(LAYERS) else f"{module}>{name}"


def is_operation(record: Mapping[str, Any]) -> bool:
    """Whether a record is that of an operation of Keras.

    >>> is_operation({"module": "keras.src.ops.numpy", "class_name": "Add", "config": {}})
    True
    """
    return key_of(record).startswith("ops.")


def rank_of(record: Mapping[str, Any]) -> int | None:
    """The number of axes that a layer wants its input to have; None where that is open.

    >>> import kerassurgery_fn.rules
    >>> rank_of({"module": "keras.layers", "class_name": "MaxPooling2D", "config": {}})
    4
    """
    rank = rule_for(record).rank
    return rank(record["config"]) if callable(rank) else rank


def is_foreign(record: Mapping[str, Any]) -> bool:
    """Whether a layer is of a class that is not one of Keras.

    >>> is_foreign({"module": "mine", "class_name": "Gate", "registered_name": "pack>Gate"})
    True
    """
    return ">" in key_of(record)
