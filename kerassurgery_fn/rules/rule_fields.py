"""The fields of the record of a class."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

Channels = Callable[..., Any]
Config = Mapping[str, Any]


class Kernel(NamedTuple):
    """The last kernel of a layer.

    - `slot`: the index of the kernel among the weights of the layer;
    - `axes`: the axes of the kernel along which the output channels lie.
    """

    slot: int
    axes: tuple[int, ...]


class Vocabulary(NamedTuple):
    """The vocabulary of a lookup layer. A `.keras` file stores it as an asset.

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

    - `channels`: the call of a layer on channel maps; None if no function can state what the class does to channels;
    - `pins`: why there is no such function;
    - `approximate`: where a cut is not exact and why, for the table of supported classes; empty if it is exact;
    - `equal_channels`: whether equal input channels give equal output channels, and the layer sums over channels only
      with its own weights, so that a channel can be copied;
    - `merges`: how the class combines its inputs, if it can do without some of them: it `joins` them along an axis, or
      it `sums` them.

    What a layer computes:

    - `rows`: the config field that counts the values that the layer reads, if it has a row or a position for each;
    - `values`: what a class does with integer inputs, if it does not follow from `dtype` and `merges`: they are
      `compared` with a number, or `ignored` except for their shape. `made`: the class creates integers for its words;
    - `last`: config -> the activation that the layer applies last to all of its output: its name, its record, or the
      record of an inner layer. None if it is not known;
    - `reshapes`: whether the class only changes the shape of its input;
    - `broadcasts`: whether an operation combines its tensors element by element and aligns them at their last axes;
    - `macs`: (use, shapes of the arguments) -> the multiply-accumulates of a call. None: every element of the kernels
      is used once for each position of the output;
    - `deepens`: whether a layer of the class can start as the identity: it has a kernel and a bias, and the spatial
      axes of the kernel come before the channel axes;
    - `folds`: the kernel into which a batch normalisation after the layer can be folded; None if there is none;
    - `foldable`: whether the layer is a normalisation that scales and shifts each channel by its own statistics;
    - `masks`: what the class does with the mask of its input, see `mask_rules`; None if it drops the mask;
    - `makes_mask`: config -> whether the layer creates a mask;
    - `dtype`: the dtype of the output. `computed`: the compute dtype of the layer's policy; `input`: the same, or the
      dtype of the input if that is an integer; `moved`: the dtype of the input, whose elements are moved; `promoted`:
      the dtype to which all operands are promoted; `selects`: the dtype of the operands after the first, among which
      the first selects.

    How a layer is called:

    - `arguments`: the names of the tensors that a call takes by position, in order. None if they are not known;
    - `keywords`: further arguments that a call takes by name;
    - `takes`: whether the first argument is one `tensor`, a `list` of tensors, or `either` (then the layer passes on
      each tensor);
    - `added`: the keyword arguments that Keras writes into a call that does not have them;
    - `states`: the number of tensors in `initial_state`; None if the number is not fixed.

    What a layer requires:

    - `needs_floats`: whether TensorFlow cannot compute the layer on integers, or config -> that;
    - `rank`: the number of axes of its input, or config -> this number; None if any number is possible;
    - `least_rank`: the smallest number of axes of its input, or config -> this number;
    - `fixed_rank`: whether a built layer only takes tensors of the rank for which it was built;
    - `new_axis`: whether `axis` is the number of an axis that the input does not have yet;
    - `requires`: checks of the sizes of its inputs, see `size_checks`;
    - `ranges`: config field -> (value -> whether the field can have it), if the class differs from others with this
      field.

    What its record states:

    - `built`: whether `build_config` states the shape for which the layer was built, or the names of the arguments
      whose shapes it states. Keras writes none for a layer that does not need to be built;
    - `derived_config`: (config, axes of the first input) -> the config fields that Keras derives when it builds the
      layer;
    - `stated_shape`: (config, shape of the output) -> the shape as Keras records it, in which some sizes are None;
    - `counts_positions`: (config, old input shape, new input shape, grids of its axes) -> the new values of the config
      fields that count positions, see `counted_positions`;
    - `makes_positions`: (config, axis of the output, size of this axis in the input, new size) -> the config fields
      with which the output has the new size; empty if the config does not determine the size of this axis;
    - `states_dtype`: whether the config has a dtype where other layers have a policy;
    - `unbuildable`: config -> why Keras cannot build a layer from this config, although it wrote it; empty if it can.

    What a file of weights contains:

    - `sublayers`: config -> the weights of the layer itself and those of its sublayers, see `weight_groups`; None if
      the layer has no sublayers. For a layer of your own, it is enough to list the attributes that hold its sublayers,
      in the order in which the class creates them;
    - `vocabulary`: the vocabulary of a lookup layer, see `Vocabulary`; None for all other layers.

    >>> Rule(rank=4, equal_channels=True)
    Rule(equal_channels=True, rank=4)
    """

    channels: Channels | None = None
    pins: str = ""
    approximate: str = ""
    equal_channels: bool = False
    merges: Literal["", "joins", "sums"] = ""

    rows: str = ""
    values: Literal["", "compared", "ignored", "made"] = ""
    last: Callable[[Config], Any] | None = None
    reshapes: bool = False
    broadcasts: bool = False
    macs: Callable[..., int] | None = None
    deepens: bool = False
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
    stated_shape: Callable[[Config, Any], Any] | None = None
    counts_positions: Callable[[Config, Any, Any, Any], dict[str, Any]] | None = None
    makes_positions: Callable[[Config, int, Any, int], dict[str, Any]] | None = None
    states_dtype: bool = False
    unbuildable: Callable[[Config], str] | None = None

    sublayers: Callable[[Config], Any] | tuple[str, ...] | None = None
    vocabulary: Vocabulary | None = None

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
