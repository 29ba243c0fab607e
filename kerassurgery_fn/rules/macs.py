"""Counts the multiply-accumulates of layers.

A function here is the field `macs` of a record: the layer's call on shapes instead of tensors. It takes the `Use` and
the arguments of the call, with a tuple of sizes in place of every tensor, and returns the multiply-accumulates of the
call. If a record has no such function, each element of the kernels counts once for each position of the output. This
is right for dense layers and for plain, grouped, depthwise and separable convolutions.
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
    - `weights`: the name and shape of each weight of the layer;
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
        """The number of elements of all kernels: weights with two or more axes, without biases, statistics and LoRA
        weights.

        >>> Use({}, [("kernel", (3, 3, 8, 16)), ("bias", (16,))], []).kernels
        1152
        """
        others = {*STATE, *ADAPTERS}
        return sum(
            prod(shape) for name, shape in self.weights if len(shape) > 1 and "bias" not in name and name not in others
        )

    @property
    def adapting(self) -> int:
        """The multiply-accumulates of LoRA: the product of its two factors, which is added to the kernel. It counts
        once for each sample, because costs are those of one sample.

        >>> weights = [("kernel", (8, 16)), ("lora_kernel_a", (8, 2)), ("lora_kernel_b", (2, 16))]
        >>> Use({}, weights, [(1, 28, 16)]).adapting
        256
        """
        factors = [shape for name, shape in self.weights if name in ADAPTERS]
        return self.outputs[0][0] * prod(factors[0]) * factors[1][-1] if factors else 0

    def weight(self, name: str) -> Shape:
        """The shape of the weight with this name."""
        return next(shape for weight, shape in self.weights if weight == name)

    def positions(self, shape: Shape) -> int:
        """The number of positions of a tensor: the product of the sizes of all axes except the channel axis.

        >>> Use({"config": {}}, [], []).positions((1, 28, 28, 16))
        784
        >>> Use({"config": {"data_format": "channels_first"}}, [], []).positions((1, 16, 28, 28))
        784
        """
        channel = 1 if self.get("data_format") == "channels_first" else len(shape) - 1
        return prod(n for axis, n in enumerate(shape) if axis != channel)

    def inner(self, name: str) -> Use:
        """The same call for the layer in a field of the config."""
        return replace(self, record=self[name])

    def __call__(self, *args: Any, **kwargs: Any) -> int:
        """The multiply-accumulates of the call, by the field `macs` of the layer's record."""
        count = rule_for(self.record).macs or once_per_output_position
        args, kwargs, _ = placed(count, args, kwargs)
        macs = count(self, *args, **kwargs)
        return macs + self.adapting if self.get("lora_rank") else macs


def once_per_output_position(use: Use, *_: Any, **__: Any) -> int:
    """Each kernel element counts once for each position of the output."""
    return use.kernels * use.positions(use.outputs[0]) if use.kernels else 0


def dense_macs(use: Use, inputs: Shape, *_: Any, **__: Any) -> int:
    """The kernel counts once for each position. The size of a quantized kernel comes from the config, because the
    kernel can be packed; its LoRA factors are applied to the input."""
    if any(name for name, _ in use.weights):
        return once_per_output_position(use)
    rank = use.get("lora_rank") or 0
    return prod(inputs[:-1]) * (inputs[-1] * use["units"] + rank * (inputs[-1] + use["units"]))


def once_per_input_position(use: Use, inputs: Shape, *_: Any, **__: Any) -> int:
    """Each kernel element counts once for each position of the input, also where the output is cropped."""
    return use.kernels * use.positions(inputs)


def once_per_step(use: Use, sequences: Shape, *_: Any, **__: Any) -> int:
    """Each kernel element counts once for each step of time."""
    return use.kernels * prod(sequences[:2])


def once_per_step_and_position(use: Use, sequences: Shape, *_: Any, **__: Any) -> int:
    """Each kernel element counts once for each step of time and each position of the state."""
    state = use.outputs[0][2:] if use["return_sequences"] else use.outputs[0][1:]
    return use.kernels * prod(sequences[:2]) * use.positions((1, *state))


def macs_both_ways(use: Use, sequences: Shape, *args: Any, **kwargs: Any) -> int:
    """Both directions together: the weights contain the kernels of both."""
    return use.inner("layer")(sequences, *args, **kwargs)


def macs_step_by_step(use: Use, inputs: Shape, *args: Any, **kwargs: Any) -> int:
    """The wrapped layer, called on each step of time as on a further sample."""
    steps = [(prod(shape[:2]), *shape[2:]) for shape in (inputs, *use.outputs)]
    return replace(use.inner("layer"), outputs=steps[1:])(steps[0], *args, **kwargs)


def normalised_macs(use: Use, *args: Any, **kwargs: Any) -> int:
    """The wrapped layer. The norm of its kernel is only computed in training."""
    weights = [(name, shape) for name, shape in use.weights if name != "vector_u"]
    return replace(use.inner("layer"), weights=weights)(*args, **kwargs)


def dot_macs(use: Use, inputs: Sequence[Shape], *_: Any, **__: Any) -> int:
    """Each element of the output is a sum over the contracted axis."""
    axes = use["axes"]
    return prod(use.outputs[0]) * inputs[0][axes[0] if isinstance(axes, list) else axes]


def embedding_macs(use: Use, inputs: Shape, *_: Any, **__: Any) -> int:
    """A lookup has none. With LoRA on a quantized table, one factor is looked up and multiplied by the other factor."""
    named = any(name for name, _ in use.weights)
    return 0 if named else prod(inputs) * (use.get("lora_rank") or 0) * use["output_dim"]


def no_macs(use: Use, *_: Any, **__: Any) -> int:
    """For weights that are looked up, or combined with the input element by element."""
    return 0


def reversible_embedding_macs(use: Use, inputs: Shape, reverse: bool = False, **_: Any) -> int:
    """A lookup in one direction, and a dense layer in the reverse direction."""
    kernels = [shape for name, shape in use.weights if name not in ADAPTERS]
    return prod(inputs[:-1]) * prod(kernels[-1]) if reverse else 0
