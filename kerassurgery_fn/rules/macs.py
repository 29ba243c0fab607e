"""Multiply-accumulates of layers: how often they use their kernels.

A function here is the field `macs` of a record: the layer's call on shapes instead of tensors. It takes the `Use` and
the arguments of the call, with a tuple of sizes in place of every tensor, and returns the multiply-accumulates of the
call. A class whose record has no such function uses every element of its kernels once for each position of its output,
which is right for dense layers and for plain, grouped, depthwise and separable convolutions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any

from kerassurgery_fn.graph import Record
from kerassurgery_fn.rules.layer import ADAPTERS, STATE, placed
from kerassurgery_fn.rules.registry import rule_for

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Use:
    """One call of a layer, for which multiply-accumulates are counted. `use["units"]` is a field of the layer's config.

    - `record`: the layer's record;
    - `weights`: name and shape of each of its weights;
    - `outputs`: the shapes of the outputs of the call.
    """

    record: Record
    weights: Sequence[tuple[str, Shape]]
    outputs: Sequence[Shape]

    def __getitem__(self, name: str) -> Any:
        return self.record["config"][name]

    def get(self, name: str, default: Any = None) -> Any:
        return self.record["config"].get(name, default)

    @property
    def kernels(self) -> int:
        """How many elements the kernels have: the weights of two axes and more that are no biases, no statistics and no
        LoRA weights.

        >>> Use({}, [("kernel", (3, 3, 8, 16)), ("bias", (16,))], []).kernels
        1152
        """
        others = {*STATE, *ADAPTERS}
        return sum(
            prod(shape) for name, shape in self.weights if len(shape) > 1 and "bias" not in name and name not in others
        )

    @property
    def adapting(self) -> int:
        """The multiply-accumulates of what LoRA adds to the kernel: the product of its two factors, once for each
        sample, as costs are those of one sample.

        >>> weights = [("kernel", (8, 16)), ("lora_kernel_a", (8, 2)), ("lora_kernel_b", (2, 16))]
        >>> Use({}, weights, [(1, 28, 16)]).adapting
        256
        """
        factors = [shape for name, shape in self.weights if name in ADAPTERS]
        return self.outputs[0][0] * prod(factors[0]) * factors[1][-1] if factors else 0

    def weight(self, name: str) -> Shape:
        """The shape of the weight of that name."""
        return next(shape for given, shape in self.weights if given == name)

    def positions(self, shape: Shape) -> int:
        """How many positions a tensor has, in all axes but that of its channels.

        >>> Use({"config": {}}, [], []).positions((1, 28, 28, 16))
        784
        >>> Use({"config": {"data_format": "channels_first"}}, [], []).positions((1, 16, 28, 28))
        784
        """
        channel = 1 if self.get("data_format") == "channels_first" else len(shape) - 1
        return prod(n for axis, n in enumerate(shape) if axis != channel)

    def inner(self, name: str) -> Use:
        """The same use of the layer that stands in a field of the config."""
        return replace(self, record=self[name])

    def __call__(self, *args: Any, **kwargs: Any) -> int:
        """The multiply-accumulates of the call, as the record of the layer's class counts them."""
        count = rule_for(self.record).macs or once_per_output_position
        args, kwargs, _ = placed(count, args, kwargs)
        macs = count(self, *args, **kwargs)
        return macs + self.adapting if self.get("lora_rank") else macs


def once_per_output_position(use: Use, *_: Any, **__: Any) -> int:
    """Every kernel element once for each position of what the layer makes."""
    return use.kernels * use.positions(use.outputs[0]) if use.kernels else 0


def dense_macs(use: Use, inputs: Shape, *_: Any, **__: Any) -> int:
    """The kernel once for each position. A quantized one may be packed, and LoRA adds to what it makes."""
    if any(name for name, _ in use.weights):
        return once_per_output_position(use)
    rank = use.get("lora_rank") or 0
    return prod(inputs[:-1]) * (inputs[-1] * use["units"] + rank * (inputs[-1] + use["units"]))


def once_per_input_position(use: Use, inputs: Shape, *_: Any, **__: Any) -> int:
    """Every kernel element once for each position of what the layer reads, cropped ones included."""
    return use.kernels * use.positions(inputs)


def once_per_step(use: Use, sequences: Shape, *_: Any, **__: Any) -> int:
    """Every kernel element once for each step of time."""
    return use.kernels * prod(sequences[:2])


def once_per_step_and_position(use: Use, sequences: Shape, *_: Any, **__: Any) -> int:
    """Every kernel element once for each step of time and position of the state."""
    state = use.outputs[0][2:] if use["return_sequences"] else use.outputs[0][1:]
    return use.kernels * prod(sequences[:2]) * use.positions((1, *state))


def macs_both_ways(use: Use, sequences: Shape, *args: Any, **kwargs: Any) -> int:
    """Two layers, whose kernels stand together."""
    return use.inner("layer")(sequences, *args, **kwargs)


def macs_step_by_step(use: Use, inputs: Shape, *args: Any, **kwargs: Any) -> int:
    """The layer within, called on every step of time as if it were one more sample."""
    steps = [(prod(shape[:2]), *shape[2:]) for shape in (inputs, *use.outputs)]
    return replace(use.inner("layer"), outputs=steps[1:])(steps[0], *args, **kwargs)


def normalised_macs(use: Use, *args: Any, **kwargs: Any) -> int:
    """The layer within; the norm of its kernel is worked out in training only."""
    weights = [(name, shape) for name, shape in use.weights if name != "vector_u"]
    return replace(use.inner("layer"), weights=weights)(*args, **kwargs)


def dot_macs(use: Use, inputs: Sequence[Shape], *_: Any, **__: Any) -> int:
    """Each element made is a sum as long as the axis that is contracted."""
    axes = use["axes"]
    return prod(use.outputs[0]) * inputs[0][axes[0] if isinstance(axes, list) else axes]


def embedding_macs(use: Use, inputs: Shape, *_: Any, **__: Any) -> int:
    """A lookup; LoRA of a quantized table looks one factor up and multiplies by the other."""
    named = any(name for name, _ in use.weights)
    return 0 if named else prod(inputs) * (use.get("lora_rank") or 0) * use["output_dim"]


def no_macs(use: Use, *_: Any, **__: Any) -> int:
    """Weights that are looked up, or combined with the input element by element."""
    return 0


def reversible_embedding_macs(use: Use, inputs: Shape, reverse: bool = False, **_: Any) -> int:
    """A table for looking up one way, a dense layer the other way."""
    kernels = [shape for name, shape in use.weights if name not in ADAPTERS]
    return prod(inputs[:-1]) * prod(kernels[-1]) if reverse else 0
