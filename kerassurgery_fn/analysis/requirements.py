"""What layers of Keras require of the tensors that they are called on, so that Keras can build and call them.

Each requirement is data about a class, taken from the `build`, `input_spec` and `compute_output_shape` of that class:
how many axes a tensor has, which sizes must be known, which sizes must divide others. What every class requires is
here, too: known sizes of weights, and no output without positions.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise, takewhile
from typing import Any

import numpy as np
from toolz import iterate

from kerassurgery_fn.channels import size
from kerassurgery_fn.graph import Record, is_model, leaves
from kerassurgery_fn.rules.findings import First
from kerassurgery_fn.rules.layer import Weight, listed
from kerassurgery_fn.rules.registry import key_of, rule_for

Sizes = tuple[int | None, ...]

RANKS = {"LSTM": 3, "GRU": 3, "SimpleRNN": 3, "RepeatVector": 2}
LEAST = {"Dense": 2, "RNN": 3, "TimeDistributed": 3}
STATES_OF_VECTORS = {"LSTM", "GRU", "SimpleRNN"}
RECURRENT = {*STATES_OF_VECTORS, "RNN", "Bidirectional", "ConvLSTM1D", "ConvLSTM2D", "ConvLSTM3D"}
PLACES = ("axis", "axis1", "axis2", "source", "destination")  # fields that name axes of what a layer reads
AXES_OF_THEIR_OWN = {"ops.ExpandDims", "ops.OneHot", "ops.Stack"}  # an axis that the tensor does not have yet
WITH_NOISE = {"Dropout", "AlphaDropout"}
# `build` writes the rank into the `input_spec`.
BUILT_FOR_ONE_RANK = {"BatchNormalization", "EinsumDense", "GroupNormalization", "PReLU"}


# Layers and operations that TensorFlow cannot compute of integers, some of them in training only, and activations that
# it can.
OF_FLOATS = re.compile(
    r"ELU|PReLU|Softmax|UnitNormalization|(Alpha|Gaussian|Spatial)?Dropout(\dD)?|GaussianNoise|AveragePooling\dD|"
    r"(Depthwise|Separable)?Conv\dD(Transpose)?|(Additive)?Attention|"
    r"ops\.([CS]?elu|Gelu|Silu|(Log)?Sigmoid|Hard(Sigmoid|Silu|Tanh|Shrink)|(Soft|Tanh)Shrink|Soft(plus|sign|max)|"
    r"LogSoftmax|Squareplus|Sparse(Plus|Sigmoid|max)|Glu|Normalize|Norm|Logsumexp|Rsqrt|Reciprocal|Erf|AveragePool|"
    r"(Depthwise|Separable)?Conv|ConvTranspose)",
    re.IGNORECASE,
)
OF_INTEGERS = ("linear", "relu", "relu6", "leaky_relu", "tanh", "exponential")


class Misfit(Exception):
    """Sizes that do not go together, in words."""


def rank_of(record: Record) -> int | None:
    """How many axes a layer wants its input to have; None where that is open.

    >>> rank_of({"module": "keras.layers", "class_name": "MaxPooling2D"})
    4
    """
    key = key_of(record)
    if key.startswith("ops.") or ">" in key:
        return None
    if key == "Permute":
        return len(record["config"]["dims"]) + 1
    if key == "Bidirectional":
        return rank_of(record["config"]["layer"])
    spatial = re.search(r"(\d)D(Transpose)?$", key)
    return int(spatial[1]) + 2 + key.startswith("ConvLSTM") if spatial else RANKS.get(key)


def least_rank_of(record: Record) -> int:
    """How many axes a layer wants its input to have at least.

    >>> least_rank_of({"module": "keras.layers", "class_name": "PReLU", "config": {"shared_axes": [1, 2]}})
    3
    """
    key = key_of(record)
    if key == "PReLU":
        return 1 + max(listed(record["config"].get("shared_axes") or 0))
    return LEAST.get(key, 0)


def check_rank(record: Record, shape: Sequence[Any]) -> None:
    """Raises Misfit where a tensor has more or fewer axes than the layer wants."""
    check_places(record, len(shape))
    wanted, least = rank_of(record), least_rank_of(record)
    if wanted and len(shape) != wanted:
        raise Misfit(f"it takes tensors of {wanted} axes")
    if len(shape) < least:
        raise Misfit(f"it takes tensors of {least} axes or more")


def check_places(record: Record, rank: int) -> None:
    """Raises Misfit where a layer names axes that a tensor does not have."""
    key, config = key_of(record), record["config"]
    for field in () if key in AXES_OF_THEIR_OWN or ">" in key else PLACES:
        axes = [axis for axis in listed(config.get(field)) if isinstance(axis, int)]
        if odd := [axis for axis in axes if not -rank <= axis < rank]:
            raise Misfit(f"its {field} {odd[0]} is none of a tensor of {rank} axes; give it another `{field}`")
    if key == "ops.Transpose" and len(config.get("axes") or range(rank)) != rank:
        raise Misfit(f"its axes {list(config['axes'])} are not those of a tensor of {rank} axes")
    if key in WITH_NOISE and len(config.get("noise_shape") or ()) > rank:
        raise Misfit(f"its noise_shape {tuple(config['noise_shape'])} is for tensors of more than {rank} axes")


def check_built_rank(record: Record, shape: Sequence[Any]) -> None:
    """Raises Misfit where a layer is built for another number of axes, and takes no other from then on."""
    built = (record.get("build_config") or {}).get("input_shape")
    if key_of(record) in BUILT_FOR_ONE_RANK and built and len(built) != len(shape):
        raise Misfit(f"it is built for tensors of {len(built)} axes; give a layer that is not built")


def channels_of(record: Record, shape: Sizes) -> int | None:
    """The number of channels along the axis that a layer's `data_format` names."""
    return shape[1 if record["config"].get("data_format") == "channels_first" else -1]


def check_groups(record: Record, shape: Sizes) -> None:
    """Raises Misfit where channels or filters cannot be parted into the groups of a layer."""
    config, key = record["config"], key_of(record)
    groups = config.get("groups") or 1
    normalised = key == "GroupNormalization"
    counts = {"channels": shape[config["axis"]] if normalised else channels_of(record, shape)}
    counts |= {} if normalised else {"filters": config.get("filters")}
    if groups > 1 and counts["channels"] is None:
        raise Misfit(
            f"its {groups} groups part a number of channels that is not known; give the model an input of fixed size"
        )
    for noun, n in counts.items():
        if n is not None and groups > 0 and n % groups:
            raise Misfit(f"its {groups} groups do not divide {n} {noun}; set `groups`, or change the number of {noun}")


def check_space(record: Record, shape: Sizes) -> None:
    """Raises Misfit where the sizes of space are open, which a layer needs for its states."""
    first = record["config"].get("data_format") == "channels_first"
    if None in (shape[3:] if first else shape[2:-1]):
        raise Misfit("it needs known sizes of all axes but batch and time")


def check_adapted(record: Record) -> None:
    """Raises Misfit where a weight that LoRA adapts would be constrained."""
    config = record["config"]
    for field in ("kernel_constraint", "embeddings_constraint") if config.get("lora_rank") else ():
        if config.get(field):
            raise Misfit(f"Keras adapts no weight by LoRA that is constrained; leave out `{field}`")


def check_parts(record: Record, shape: Sizes) -> None:
    """Raises Misfit where positions cannot be split into so many equal parts."""
    axes = {"ops.Vsplit": 0, "ops.Hsplit": 1, "ops.Dsplit": 2}
    parts, axis = record["config"].get("indices_or_sections"), axes.get(key_of(record), record["config"].get("axis"))
    n = shape[axis] if isinstance(axis, int) and -len(shape) <= axis < len(shape) else None
    if isinstance(parts, int) and n is not None and n % parts:
        raise Misfit(f"axis {axis} has {n} positions, which are not {parts} equal parts")


def check_arrays(record: Record, shape: Sizes) -> None:
    """Raises Misfit where arrays in a config are not those of a tensor: Keras finds out only when the model is run."""
    config = record["config"]
    shapes = {field: config[field] for field in ("noise_shape",) if config.get(field)}
    for field in ("scale", "offset"):
        value = config.get(field)
        shapes[field] = np.shape(value["config"]["value"] if isinstance(value, Mapping) else value or 0.0)
    for field, sizes in shapes.items():
        met = zip(reversed(sizes), reversed(shape), strict=False)
        if len(sizes) > len(shape) or any(n not in (None, 1, other) for n, other in met if other is not None):
            raise Misfit(f"its {field} of shape {tuple(sizes)} cannot be broadcast to that; set `{field}`")


def check_joined(record: Record, shapes: list[Sizes]) -> None:
    """Raises Misfit where tensors that are joined along one axis differ in another."""
    if len(set(map(len, shapes))) > 1:
        raise Misfit("tensors that are joined have the same number of axes")
    axis = record["config"]["axis"] % len(shapes[0])
    rest = [[n for i, n in enumerate(shape) if i != axis] for shape in shapes]
    for one, other in pairwise(rest):
        if any(a != b and None not in (a, b) for a, b in zip(one, other, strict=True)):
            raise Misfit(f"tensors that are joined along axis {axis} have the same sizes along all other axes")


def check_dot(record: Record, shapes: list[Sizes]) -> None:
    """Raises Misfit where the axes that are summed over do not exist, or differ."""
    axes = record["config"]["axes"]
    for axis, shape in zip(axes if isinstance(axes, list) else [axes, axes], shapes, strict=True):
        if not -len(shape) <= axis < len(shape):
            raise Misfit(f"it sums over axis {axis}, which a tensor of {len(shape)} axes does not have")
    i, j = axes if isinstance(axes, list) else (axes, axes)
    if shapes[0][i] != shapes[1][j]:
        raise Misfit(f"it sums over axes of sizes {shapes[0][i]} and {shapes[1][j]}, which must be the same")


def check_states(record: Record, args: Any, kwargs: Any) -> None:
    """Raises Misfit where the states or the mask of a recurrent layer are no vector a sample."""
    states = args[1] if len(args) > 1 else kwargs.get("initial_state")
    for state in leaves(states) if key_of(record) in STATES_OF_VECTORS else ():
        if isinstance(state, tuple) and len(state) != 2:
            raise Misfit(f"its initial_state is of 2 axes, not of shape {tuple(map(size, state))}")
    mask = kwargs.get("mask")
    if key_of(record) in RECURRENT and isinstance(mask, tuple) and len(mask) != 2:
        raise Misfit(f"its mask is of 2 axes, batch and time, not of shape {tuple(map(size, mask))}")


# Class -> what it requires of the shape of its first tensor, or of the shapes in a list of them.
OF_ONE: dict[str, Callable[[Record, Sizes], None]] = {
    **dict.fromkeys(("Conv1D", "Conv2D", "Conv3D", "GroupNormalization"), check_groups),
    **dict.fromkeys(("Dropout", "Rescaling"), check_arrays),
    **dict.fromkeys(("ops.Split", "ops.Vsplit", "ops.Hsplit", "ops.Dsplit"), check_parts),
    **dict.fromkeys(("ConvLSTM1D", "ConvLSTM2D", "ConvLSTM3D"), check_space),
}
OF_SEVERAL: dict[str, Callable[[Record, list[Sizes]], None]] = {
    **dict.fromkeys(("Concatenate", "ops.Concatenate"), check_joined),
    "Dot": check_dot,
}


def check_calls(first: Iterable[First]) -> None:
    """Raises Misfit where a layer, or one inside it, cannot be called on the sizes that it is given."""
    for record, args, kwargs in first:
        check_adapted(record)
        check_states(record, args, kwargs)
        given = next(iter([*args, *kwargs.values()]), None)
        if isinstance(given, tuple):
            shape = tuple(map(size, given))
            check_rank(record, shape)
            check_built_rank(record, shape)
            OF_ONE.get(key_of(record), lambda *_: None)(record, shape)
        elif isinstance(given, list) and all(isinstance(one, tuple) for one in given):
            shapes = [tuple(map(size, one)) for one in given]
            OF_SEVERAL.get(key_of(record), lambda *_: None)(record, shapes)


def check_aligned(record: Record, before: Sequence[Sequence[Any] | None], shapes: Sequence[Sizes]) -> None:
    """Raises Misfit where an operation would align the batch axis of a tensor with another axis than a batch axis.

    Operations align tensors at their last axes, merge layers at the batch axis. Tensors whose numbers of axes are as
    they were are not looked at: an unknown size at the beginning need not be the batch.

    Args:
        record: the operation.
        before: the shapes that the operation read before; None where it read no such tensor.
        shapes: the shapes that it reads now.
    """
    is_new = None in before or [len(shape or ()) for shape in before] != [len(shape) for shape in shapes]
    if not rule_for(record).broadcasts or not is_new:
        return
    longest = max(shapes, key=len)
    for shape in shapes:
        if shape and shape[0] is None and len(shape) < len(longest) and longest[-len(shape)] != 1:
            raise Misfit(
                f"it aligns tensors at their last axes, so that the batch axis of shape {shape} would meet axis "
                f"{len(longest) - len(shape)} of shape {longest}; put a Reshape before it that gives both tensors the "
                "same number of axes"
            )


def check_floats(record: Record, before: Sequence[str | None], dtypes: Sequence[str | None]) -> None:
    """Raises Misfit where a layer that computes with floats would read integers, and has not done so before.

    Args:
        record: the layer, which may wrap another one.
        before, dtypes: the dtypes of the tensors that the layer read before and reads now; None where not known.
    """
    integers = [now for old, now in zip(before, dtypes, strict=True) if now and now != old and "float" not in now]
    layers = [*takewhile(bool, iterate(lambda layer: layer["config"].get("layer"), record))]
    if integers and not is_model(layers[-1]) and needs_floats(layers[-1]):
        raise Misfit(f"it computes with floats, and the tensor is of {integers[0]}; put it behind a layer of floats")


def needs_floats(record: Record) -> bool:
    """Whether Keras computes what a layer makes of floats alone.

    >>> dropout, relu = ({"module": "keras.layers", "class_name": name, "config": {}} for name in ("Dropout", "ReLU"))
    >>> needs_floats(dropout), needs_floats(relu)
    (True, False)
    """
    key, activation = key_of(record), record["config"].get("activation")
    return bool(OF_FLOATS.fullmatch(key)) or (key == "Activation" and activation not in OF_INTEGERS)


def check_made(record: Record, made: Sequence[Any]) -> None:
    """Raises Misfit where nothing is left of an axis: a window or a crop is larger than what it is taken of."""
    for axes in made:
        sizes = tuple(map(size, axes))
        if not key_of(record).startswith("ops.") and any(n is not None and n <= 0 for n in sizes[1:]):
            field = next(
                (name for name in ("kernel_size", "pool_size", "cropping") if name in record["config"]), "config"
            )
            raise Misfit(
                f"nothing would be left of it, but a tensor of shape {sizes}: its {field} is larger than the tensor; "
                f"give it another {field}, or padding"
            )


def check_known(weights: Sequence[Weight]) -> None:
    """Raises Misfit where a weight would have an open size."""
    for weight in weights:
        sizes = tuple(map(size, weight.axes))
        if None in sizes:
            raise Misfit(
                f"its {weight.name} would be of shape {sizes}, and a weight has no open sizes; give the model an input "
                "of fixed size, or use a layer that does not depend on that size"
            )


def check_shared(before: Sequence[Weight], now: Sequence[Weight]) -> None:
    """Raises Misfit where calls of one layer would need weights of different shapes."""
    for one, other in zip(before, now, strict=False):
        old, new = tuple(map(size, one.axes)), tuple(map(size, other.axes))
        if any(a != b and None not in (a, b) for a, b in zip(old, new, strict=False)):
            raise Misfit(
                f"its {one.name} would have to be of shape {old} at one call and {new} at another, and its calls share "
                "one; give each of these calls a layer of its own with calls="
            )


def describe(needed: Mapping[int, Sequence[str]]) -> str:
    """Which outputs are read, and by what, in words.

    >>> describe({1: ["top", "an output of the model"]})
    "tensor 1 is read by 'top' and an output of the model"
    """
    index, names = next(iter(sorted(needed.items())))
    readers = [name if " " in name else repr(name) for name in dict.fromkeys(names)]
    return f"tensor {index} is read by {' and '.join(readers)}"
