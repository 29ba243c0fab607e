"""Checks the tensors that layers read, so that Keras can build and call the layers.

The record of a class states its requirements: the number of axes, whether it needs floats, and which sizes must divide
other sizes (`rules.size_checks`). The requirements of all classes are here: weights have no variable sizes, and no axis
of an output is empty.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import takewhile
from typing import Any

from toolz import iterate, unique, valmap

from kerassurgery_fn.channels import size
from kerassurgery_fn.graph import Record, is_model
from kerassurgery_fn.rules.call_arguments import placed
from kerassurgery_fn.rules.config_values import listed
from kerassurgery_fn.rules.findings import First
from kerassurgery_fn.rules.layer import Weight
from kerassurgery_fn.rules.registry import is_foreign, is_operation, rank_of, rule_for
from kerassurgery_fn.rules.size_checks import Misfit, Sizes

PLACES = ("axis", "axis1", "axis2", "source", "destination")  # fields that name axes of the input


def least_rank_of(record: Record) -> int:
    """The smallest number of axes that a layer's input can have.

    >>> least_rank_of({"module": "keras.layers", "class_name": "PReLU", "config": {"shared_axes": [1, 2]}})
    3
    """
    least = rule_for(record).least_rank
    return least(record["config"]) if callable(least) else least


def check_rank(record: Record, shape: Sequence[Any]) -> None:
    """Raises Misfit if a tensor has another number of axes than the layer needs."""
    check_places(record, len(shape))
    rank, least = rank_of(record), least_rank_of(record)
    if rank and len(shape) != rank:
        raise Misfit(f"it takes tensors of {rank} axes")
    if len(shape) < least:
        raise Misfit(f"it takes tensors of {least} axes or more")


def check_places(record: Record, rank: int) -> None:
    """Raises Misfit if a layer names axes that a tensor does not have."""
    for field in () if rule_for(record).new_axis or is_foreign(record) else PLACES:
        axes = [axis for axis in listed(record["config"].get(field)) if isinstance(axis, int)]
        if missing := [axis for axis in axes if not -rank <= axis < rank]:
            raise Misfit(f"a tensor of {rank} axes has no {field} {missing[0]}; set `{field}`")


def check_built_rank(record: Record, shape: Sequence[Any]) -> None:
    """Raises Misfit if a layer only takes tensors of the rank for which it is built, and a tensor has another rank."""
    built = (record.get("build_config") or {}).get("input_shape")
    if rule_for(record).fixed_rank and built and len(built) != len(shape):
        raise Misfit(f"it is built for tensors of {len(built)} axes; give a layer that is not built")


def check_adapted(record: Record) -> None:
    """Raises Misfit if a weight has both a LoRA adapter and a constraint."""
    config = record["config"]
    for field in ("kernel_constraint", "embeddings_constraint") if config.get("lora_rank") else ():
        if config.get(field):
            raise Misfit(f"Keras does not allow LoRA on a weight with a constraint; remove `{field}`")


def check_calls(first: Iterable[First]) -> None:
    """Raises Misfit if a layer, or a layer inside it, cannot be called on tensors of some sizes."""
    for record, args, kwargs in first:
        check_adapted(record)
        argument = next(iter([*args, *kwargs.values()]), None)
        if isinstance(argument, tuple):
            check_rank(record, argument)
            check_built_rank(record, argument)
        if isinstance(argument, tuple) or (isinstance(argument, list) and all(isinstance(x, tuple) for x in argument)):
            check_sizes(record, args, kwargs)


def check_sizes(record: Record, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
    """Raises Misfit if sizes do not meet the requirements in the record of the class."""
    for check in rule_for(record).requires:
        positional, named, _ = placed(check, _sizes([*args]), _sizes({**kwargs}))
        check(record["config"], *positional, **named)


def _sizes(tree: Any) -> Any:
    """Arguments of a call with a tuple of sizes in place of the axes of every tensor."""
    match tree:
        case tuple():
            return tuple(map(size, tree))
        case list():
            return [*map(_sizes, tree)]
        case dict():
            return valmap(_sizes, tree)
    return tree


def check_aligned(record: Record, before: Sequence[Sequence[Any] | None], shapes: Sequence[Sizes]) -> None:
    """Raises Misfit if an operation would align the batch axis of one tensor with another axis of a second tensor.

    Operations align tensors at their last axes; merge layers align them at the batch axis. Tensors whose ranks have not
    changed are not checked, because a first axis of unknown size is not always the batch axis.

    Args:
        record: the operation.
        before: the shapes that the operation read before the edit; None for a new operand.
        shapes: the shapes that it reads now.
    """
    is_new = None in before or [len(shape or ()) for shape in before] != [len(shape) for shape in shapes]
    if not rule_for(record).broadcasts or not is_new:
        return
    longest = max(shapes, key=len)
    for shape in shapes:
        if shape and shape[0] is None and len(shape) < len(longest) and longest[-len(shape)] != 1:
            raise Misfit(
                f"it aligns tensors at their last axes, so the batch axis of shape {shape} would meet axis "
                f"{len(longest) - len(shape)} of shape {longest}; insert a Reshape before it, so that both tensors "
                "have the same number of axes"
            )


def check_floats(record: Record, before: Sequence[str | None], dtypes: Sequence[str | None]) -> None:
    """Raises Misfit if a layer that needs floats would read integers, and did not read them before the edit.

    Args:
        record: the layer, which can wrap another layer.
        before, dtypes: the dtypes of the tensors that the layer reads, before and after the edit; None if unknown.
    """
    integers = [now for old, now in zip(before, dtypes, strict=True) if now and now != old and "float" not in now]
    layers = [*takewhile(bool, iterate(lambda layer: layer["config"].get("layer"), record))]
    if integers and not is_model(layers[-1]) and needs_floats(layers[-1]):
        raise Misfit(f"it needs floats, but the tensor has the dtype {integers[0]}; choose a place with float tensors")


def needs_floats(record: Record) -> bool:
    """Whether TensorFlow cannot compute a layer on integers.

    >>> dropout, relu = ({"module": "keras.layers", "class_name": name, "config": {}} for name in ("Dropout", "ReLU"))
    >>> needs_floats(dropout), needs_floats(relu)
    (True, False)
    """
    needs = rule_for(record).needs_floats
    return needs(record["config"]) if callable(needs) else needs


def check_made(record: Record, outputs: Sequence[Any]) -> None:
    """Raises Misfit if an axis of an output would be empty, because a window or crop is larger than the input."""
    for axes in outputs:
        sizes = tuple(map(size, axes))
        if not is_operation(record) and any(n is not None and n <= 0 for n in sizes[1:]):
            field = next(
                (name for name in ("kernel_size", "pool_size", "cropping") if name in record["config"]), "config"
            )
            raise Misfit(
                f"its output would be empty, of shape {sizes}, because its {field} is larger than the input; change "
                f"{field} or the padding"
            )


def check_known(weights: Sequence[Weight]) -> None:
    """Raises Misfit if a weight would have an unknown size."""
    for weight in weights:
        sizes = tuple(map(size, weight.axes))
        if None in sizes:
            raise Misfit(
                f"its {weight.name} would have the shape {sizes}, but a weight cannot have unknown sizes; give the "
                "model an input of fixed size, or use a layer that does not depend on that size"
            )


def check_shared(before: Sequence[Weight], now: Sequence[Weight]) -> None:
    """Raises Misfit if calls of one layer would need weights of different shapes."""
    for first, second in zip(before, now, strict=False):
        old, new = tuple(map(size, first.axes)), tuple(map(size, second.axes))
        if any(a != b and None not in (a, b) for a, b in zip(old, new, strict=False)):
            raise Misfit(
                f"its {first.name} would need the shape {old} at one call and {new} at another, but all calls share "
                "the weight; give each of these calls a layer of its own with calls="
            )


def describe(needed: Mapping[int, Sequence[str]]) -> str:
    """The first output that is read, and its readers, in words.

    >>> describe({1: ["top", "an output of the model"]})
    "tensor 1 is read by 'top' and an output of the model"
    """
    index, names = min(needed.items())
    readers = [name if " " in name else repr(name) for name in unique(names)]
    return f"tensor {index} is read by {' and '.join(readers)}"
