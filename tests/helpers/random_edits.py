"""Random edits of a snapshot: of every class, with all of their fields, mostly such that they can be done."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from random import Random
from typing import Any

import keras
import numpy as np

import kerassurgery_fn as k
from helpers.random_layers import random_layer
from kerassurgery_fn.analysis.channel_flow import Flow
from kerassurgery_fn.channels import size
from kerassurgery_fn.graph import Record, is_input, is_model, of_class, read_graph
from kerassurgery_fn.values.frozen import get_in
from kerassurgery_fn.values.snapshot import Snapshot

Shape = tuple[int | None, ...]
DTYPES = ("float32", "mixed_bfloat16", "mixed_float16", "float16", "bfloat16", "float64")


@dataclass(frozen=True)
class Target:
    """What there is to edit: a snapshot, and random numbers to choose by."""

    r: Random
    snapshot: Snapshot

    @cached_property
    def flow(self) -> Flow:
        return k.analyse(self.snapshot)

    @cached_property
    def records(self) -> dict[str, Record]:
        places = read_graph(self.snapshot).places
        return {path: get_in(self.snapshot.record, place) for path, place in places.items()}

    def path(self, *classes: str) -> str:
        """The path of some layer, if possible of one of these classes."""
        fit = [path for path, record in self.records.items() if record["class_name"] in classes]
        others = [path for path, record in self.records.items() if not is_input(record)]
        return self.r.choice(fit if fit and self.r.random() < 0.9 else others)

    def selector(self, *classes: str) -> Any:
        return self.around(self.path(*classes), *classes)

    def around(self, path: str, *classes: str) -> Any:
        """What selects a layer, alone or with others: its path, bare name, a pattern, its class, several of these."""
        if self.r.random() < 0.6:
            return path
        name = path.rpartition("/")[2]
        kind = self.records[path]["class_name"]
        return self.r.choice([name, of_class(kind), f"*@{kind}", f"{name[:-1]}*", (path, self.path(*classes))])

    def calls(self, path: Any) -> tuple[int, ...] | None:
        """Some of a layer's calls, all of them mostly."""
        total = len(self.records.get(path, {}).get("inbound_nodes") or [None])
        return (self.r.randrange(-total, total),) if self.r.random() < (0.5 if total > 1 else 0.1) else None

    @cached_property
    def free(self) -> dict[tuple[str, str], list[int]]:
        """The positions of each layer's channels that the rules let go."""
        pinned, resolve = self.flow.solution.pinned(), self.flow.solution.resolve
        held = {key: pinned[resolve(producer.axis)].any(axis=0) for key, producer in self.flow.producers.items()}
        return {key: [i for i, one in enumerate(pins) if not one] for key, pins in held.items()}

    def address(self) -> tuple[str, list[int], int]:
        """The address of some layer's channels, which of them can go as far as possible, and how many there are."""
        if not self.free:
            return self.path(), [0], 1
        loose = [key for key, positions in self.free.items() if len(positions) > 1]
        path, kind = self.r.choice(loose if loose and self.r.random() < 0.85 else [*self.flow.producers])
        first, n = (
            next(other for layer, other in self.free if layer == path),
            size(self.flow.producers[path, kind].axis),
        )
        address = path if kind == first and self.r.random() < 0.7 else f"{path}:{kind}"
        return address, self.free[path, kind] or [*range(n or 1)], n or 1

    def addresses(self, of: Callable[[list[int], int], Any]) -> dict[str, Any]:
        chosen = [self.address() for _ in range(self.r.choice([1, 1, 1, 2, 3]))]
        return {address: of(positions, n) for address, positions, n in chosen}

    def new_layer(self, reads: Shape, makes: Shape) -> Any:
        """A layer for what some layer is called on: an object, built or not, its record, or a model as a layer."""
        while True:
            try:
                return self.layer_for(reads, makes)
            except ValueError:  # of Keras: a layer that takes no tensor of that shape
                continue

    def layer_for(self, reads: Shape, makes: Shape) -> Any:
        r = self.r
        layer = random_layer(r, reads) if r.random() < 0.3 else fitting(r, reads, makes)
        if r.random() < 0.3 and None not in reads[1:]:
            return k.capture(keras.Sequential([keras.Input(reads[1:]), layer]))
        if r.random() < 0.4:
            layer(keras.Input(reads[1:]))
        return keras.saving.serialize_keras_object(layer) if r.random() < 0.1 else layer

    def read(self, path: str) -> Shape:
        return read_shape(self.records[path])

    def made(self, path: str) -> Shape:
        """The shape of the first tensor that a layer makes, as far as the rules know it."""
        tensors = self.flow.tensors.items()
        axes = next((axes for ref, axes in tensors if ref.path == path and axes and len(axes) > 1), None)
        return self.read(path) if axes is None or size(axes[-1]) is None else tuple(map(size, axes))


def read_shape(record: Any) -> Shape:
    """The shape of the first tensor that a layer reads, as far as its record says so."""
    shape = first_shape(record.get("inbound_nodes")) or (record.get("build_config") or {}).get("input_shape")
    return (
        tuple(shape) if isinstance(shape, list) and 2 <= len(shape) <= 5 and isinstance(shape[-1], int) else (None, 4)
    )


def first_shape(tree: Any) -> Any:
    match tree:
        case {"class_name": "__keras_tensor__", "config": {"shape": shape}}:
            return shape
        case dict():
            return next(filter(None, map(first_shape, tree.values())), None)
        case list():
            return next(filter(None, map(first_shape, tree)), None)
    return None


def fitting(r: Random, reads: Shape, makes: Shape) -> keras.layers.Layer:
    """A layer that makes a tensor of one shape of one of the other, if there is a simple one."""
    layers = keras.layers
    if None not in makes[1:] and reads[1:-1] != makes[1:-1]:
        return layers.Reshape(makes[1:])
    dense = layers.Dense(makes[-1] or 1)
    return dense if reads[-1] != makes[-1] else r.choice([
        layers.Dropout(0.3), layers.ReLU(), layers.BatchNormalization(), layers.Identity(),
        dense, layers.LayerNormalization(), layers.Activation("tanh"),
    ])  # fmt: skip


def some(r: Random, positions: list[int], n: int) -> list[int]:
    """Less than half of some positions of n channels, now and then counted from the end."""
    chosen = r.sample(positions, max(1, r.randint(0, len(positions) // 2)))
    return [i - n if r.random() < 0.1 else i for i in chosen]


def all_but(chosen: list[int], n: int) -> list[int]:
    return [i for i in range(n) if i not in chosen and i - n not in chosen]


def shuffled(r: Random, positions: list[int], n: int) -> list[int]:
    order = dict(zip(positions, r.sample(positions, len(positions)), strict=True))
    return [order.get(i, i) for i in range(n)]


def delete_channels(t: Target) -> Any:
    return k.DeleteChannels(t.addresses(lambda free, n: some(t.r, free, n)), allow_output_change=t.r.random() < 0.15)


def delete_everywhere(t: Target) -> Any:
    """A deletion from all layers that a selector names, or of one whole group."""
    if t.r.random() < 0.5:
        free = [group for group in k.groups(t.snapshot) if not group.reasons]
        if free:
            return k.DeleteChannels(t.r.choice(free).channels([0]))
    return k.DeleteChannels(t.selector("Dense", "Conv2D"), [0], allow_output_change=t.r.random() < 0.5)


def keep_channels(t: Target) -> Any:
    change = t.r.random() < 0.15
    return k.KeepChannels(t.addresses(lambda free, n: all_but(some(t.r, free, n), n)), allow_output_change=change)


def reorder_channels(t: Target) -> Any:
    change = t.r.random() < 0.15
    return k.ReorderChannels(t.addresses(lambda free, n: shuffled(t.r, free, n)), allow_output_change=change)


def widen_channels(t: Target) -> Any:
    widths = t.addresses(lambda free, n: n + t.r.randint(0, 4) * (len(free) == n))
    return k.WidenChannels(widths, noise=t.r.choice([0, 0, 0, 0.1]), seed=t.r.randrange(9))


def deepen_layer(t: Target) -> Any:
    layer = t.selector("Dense", "Conv1D", "Conv2D", "Conv3D")
    after = t.path("ReLU", "Activation", "BatchNormalization") if t.r.random() < 0.3 else None
    window = t.r.choice([None, None, None, 1, (3, 3)])
    return k.DeepenLayer(
        layer, after, calls=t.calls(layer), kernel_size=window, name=t.r.choice([None, None, "deeper"])
    )


def insert_layer(t: Target) -> Any:
    path = t.path()
    where, side = t.around(path), t.r.choice(["before", "after"])
    shape = t.read(path) if side == "before" else t.made(path)
    operand = t.r.randrange(2) if side == "before" and t.r.random() < 0.3 else None
    name = t.r.choice([None, None, None, "new"])
    return k.InsertLayer(t.new_layer(shape, shape), **{side: where}, calls=t.calls(where), operand=operand, name=name)


def delete_layer(t: Target) -> Any:
    where = t.selector("Dropout", "ReLU", "Activation", "BatchNormalization", "Masking", "Identity", "PReLU")
    return k.DeleteLayer(where, calls=t.calls(where), allow_shape_change=t.r.random() < 0.3)


def delete_block(t: Target) -> Any:
    merges = [block.merge for block in k.residual_blocks(t.snapshot)]
    return k.DeleteBlock(t.around(t.r.choice(merges)) if merges and t.r.random() < 0.8 else t.selector("Add"))


def flatten_model(t: Target) -> Any:
    models = [path for path, record in t.records.items() if is_model(record)]
    return k.FlattenModel(t.r.choice([*models, "*@Functional", "*@Functional,Sequential"]) if models else t.path())


def nest_layers(t: Target) -> Any:
    path = t.path()
    behind = [other for other in t.records if other.rpartition("/")[0] == path.rpartition("/")[0]]
    start = behind.index(path)
    return k.NestLayers(behind[start : start + t.r.choice([1, 1, 2, 3])], t.r.choice(["nest", "nest", t.path()]))


def replace_layer(t: Target) -> Any:
    path = t.path()
    where, new = t.around(path), t.new_layer(t.read(path), t.made(path))
    return k.ReplaceLayer(where, new, calls=t.calls(where), name=t.r.choice([None, None, "new"]))


def unshare_layer(t: Target) -> Any:
    twice = [path for path, record in t.records.items() if len(record.get("inbound_nodes") or []) > 1]
    where = t.r.choice(twice) if twice else t.selector()
    return k.UnshareLayer(where, calls=t.calls(where), name=t.r.choice([None, None, "copy"]))


def fold_batch_norm(t: Target) -> Any:
    return t.r.choice([k.FoldBatchNorm(), k.FoldBatchNorm(t.selector("BatchNormalization"))])


def replace_head(t: Target) -> Any:
    units = t.r.randint(1, 6)
    keep = t.r.choice([{}, [0], {units - 1: 1}])
    layer = None if t.r.random() < 0.5 else t.selector("Dense")
    return k.ReplaceHead(units, keep=keep, layer=layer, seed=t.r.randrange(9))


def extract_model(t: Target) -> Any:
    def tensor() -> str:
        path = t.path()
        calls = len(t.records[path].get("inbound_nodes") or [None])
        return t.r.choice([path, path, path, f"{path}:{t.r.randrange(calls)}", f"{path}:0:1"])

    many = [tensor() for _ in range(t.r.randint(1, 3))]
    outputs = t.r.choice([many[0], many[0], many, {f"o{i}": one for i, one in enumerate(many)}])
    starts = [path for path in t.records if "/" not in path]
    inputs = t.r.choice([None, None, t.r.choice(starts), {"i": t.r.choice(starts)}])
    return k.ExtractModel(outputs, inputs, name=t.r.choice([None, "part"]))


FIELDS: dict[str, list[Any]] = {
    "activation": ["relu", "gelu", "tanh", "linear", "softmax"], "rate": [0.1, 0.9], "epsilon": [1e-4],
    "kernel_regularizer": [keras.regularizers.L2(0.1), None], "kernel_constraint": [keras.constraints.NonNeg(), None],
    "units": [3, 5], "filters": [4], "padding": ["same", "valid"], "strides": [1, 2, (1, 1)],
    "mask_zero": [True, False],
    "return_sequences": [True, False], "use_bias": [True, False], "groups": [1, 2], "dilation_rate": [1, 2],
    "momentum": [0.5], "axis": [-1, 1], "negative_slope": [0.3], "go_backwards": [True, False], "size": [1, 2],
    "pool_size": [1, 2], "target_shape": [(-1,), (-1, 2)], "dims": [(1, 2), (2, 1)], "recurrent_dropout": [0.2],
    "dropout": [0.1], "use_scale": [True], "kernel_size": [1, 3], "data_format": ["channels_last"], "n": [3],
    "activity_regularizer": ["l2"], "merge_mode": ["concat", "sum"], "key_dim": [2], "num_heads": [2],
    "center": [True, False], "scale": [True, False], "bias_axes": [None],
}  # fmt: skip


def set_config(t: Target) -> Any:
    path = t.path()
    fields = [name for name in FIELDS if name in t.records[path]["config"]] if t.r.random() < 0.95 else ["units", "odd"]
    if not fields:
        path, fields = t.path("Dense", "Dropout", "Conv2D"), ["activation", "rate"]
    names = t.r.sample(fields, min(len(fields), t.r.choice([1, 1, 2])))
    where = path if t.r.random() < 0.8 else of_class(t.records[path]["class_name"])
    values = {name: t.r.choice(FIELDS.get(name, [1])) for name in names}
    return k.SetConfig(where, allow_function_change=t.r.random() < 0.5, **values)


def set_trainable(t: Target) -> Any:
    models = [path for path, record in t.records.items() if is_model(record)]
    where = t.r.choice([*models, f"{models[0]}/*"]) if models and t.r.random() < 0.3 else t.selector()
    return k.SetTrainable(t.r.choice([where, where, "*"]), t.r.random() < 0.4)


def rename_layer(t: Target) -> Any:
    name = t.r.choice(["other", "other", t.path(), "a/b"])
    return k.RenameLayer(t.path(), name) if t.r.random() < 0.7 else k.RenameModel(name)


def set_input_shape(t: Target) -> Any:
    inputs = [path for path, record in t.records.items() if is_input(record)]
    path = t.r.choice(inputs) if inputs and t.r.random() < 0.95 else t.path()
    _, *sample = t.records[path]["config"].get("batch_shape") or (None, 4)
    shape = [n and t.r.choice([n, n, 2 * n, n + 3, None]) for n in sample[:-1]] + sample[-1:]
    resize = t.r.choice([None, "nearest", "bilinear", "bicubic"])
    where = t.r.choice([path, path, "*@InputLayer"])
    return t.r.choice([
        k.SetInputShape(where, shape, resize=resize), k.SetInputShape(where, shape, resize=resize),
        k.SetInputShape(path, batch_shape=(t.r.choice([None, 5]), *shape), resize=resize),
        k.SetInputShape(path, dtype=t.r.choice(["float16", "int32", "float64"])),
    ])  # fmt: skip


def edit_inputs(t: Target) -> Any:
    """An edit of the channels of an input: fewer, more, or in another order."""
    inputs = {path: record["config"]["batch_shape"] for path, record in t.records.items() if is_input(record)}
    path, (_, *sample) = t.r.choice([*inputs.items()] or [(t.path(), (None, 4))])
    n = (sample or [None])[-1] or 1
    where, allowed = t.r.choice([path, path, f"{path}:channels"]), t.r.random() < 0.9
    fill = t.r.choice(["zero", "mean", [0], [-1, 0]])
    return t.r.choice([
        k.DeleteChannels({where: some(t.r, [*range(n)], n), **t.addresses(lambda free, n: some(t.r, free, n))},
                         allow_input_change=allowed),
        k.DeleteChannels(where, some(t.r, [*range(n)], n), allow_input_change=allowed),
        k.KeepChannels(where, all_but(some(t.r, [*range(n)], n), n), allow_input_change=allowed),
        k.ReorderChannels(where, t.r.sample(range(n), n), allow_input_change=allowed),
        k.WidenChannels(where, n + t.r.randint(0, 3), allow_input_change=allowed, fill=fill),
    ])  # fmt: skip


def edit_rows(t: Target) -> Any:
    """An edit of the rows of an embedding: fewer, more, or in another order."""
    kinds = {"Embedding": "input_dim", "CategoryEncoding": "num_tokens", "OneHot": "num_classes"}
    counts = [
        (f"{path}:{kind}", record["config"][kind])
        for path, record in t.records.items()
        if (kind := kinds.get(record["class_name"])) and kind in record["config"]
    ]
    where, n = t.r.choice(counts or [(f"{t.path()}:input_dim", 3)])
    change = {"allow_input_change": t.r.random() < 0.9, "allow_output_change": t.r.random() < 0.3}
    return t.r.choice([
        k.DeleteChannels(where, some(t.r, [*range(n)], n), **change),
        k.KeepChannels(where, all_but(some(t.r, [*range(n)], n), n), **change),
        k.ReorderChannels(where, [0, *t.r.sample(range(1, n), n - 1)], **change),
        k.WidenChannels(where, n + t.r.randint(0, 3), fill=t.r.choice(["zero", "mean", [-1]]), **change),
    ])  # fmt: skip


def insert_merge(t: Target) -> Any:
    """A merge layer that reads a tensor more, mostly one of the same shape."""
    path = t.path()
    shape = t.made(path)
    like = [other for other in t.records if t.made(other) == shape and "/" not in other] or [path]
    layers = keras.layers
    layer = t.r.choice([layers.Add, layers.Multiply, layers.Concatenate, layers.Maximum, layers.Dot])
    also = [t.r.choice(like if t.r.random() < 0.9 else [*t.records]) for _ in range(t.r.choice([1, 1, 2]))]
    new = layer(axes=1) if layer is layers.Dot else layer()
    return k.InsertLayer(new, **{t.r.choice(["before", "after", "after"]): path}, also=also, calls=t.calls(path))


def add_input(t: Target) -> Any:
    shape = t.r.choice([t.made(t.path())[1:], (3,), (None, 2)])
    return k.AddInput(t.r.choice(["more", "more", t.path()]), shape, t.r.choice(["float32", "int32"]))


def set_outputs(t: Target) -> Any:
    many = [t.path() for _ in range(t.r.randint(1, 3))]
    return k.SetOutputs(t.r.choice([many[0], many, {f"o{i}": one for i, one in enumerate(many)}]))


def mix_inputs(t: Target) -> Any:
    """A layer that reads combinations of some channels: some of them add to others, or are ignored."""
    address, _, n = t.address()
    matrix = np.eye(n)
    matrix[t.r.randrange(n)] = t.r.choice([0, 0.5])
    return k.MixInputs(t.path("Dense", "Conv1D", "Conv2D"), address, matrix)


def convert_dtype(t: Target) -> Any:
    return k.ConvertDtype(t.r.choice(DTYPES), t.r.choice(["*", t.selector()]))


KINDS: list[Callable[[Target], Any]] = [
    delete_channels, delete_channels, delete_everywhere, keep_channels, reorder_channels, widen_channels, deepen_layer,
    insert_layer, insert_layer, delete_layer, replace_layer, unshare_layer, fold_batch_norm, replace_head,
    extract_model, set_config, set_config, set_trainable, rename_layer, convert_dtype, set_input_shape,
    edit_inputs, edit_rows, insert_merge, add_input, set_outputs, mix_inputs, delete_block, delete_block,
    flatten_model, nest_layers,
]  # fmt: skip


def random_edit(target: Target, kind: Callable[[Target], Any] | None = None) -> Any:
    """An edit of one class or, now and then, several at once. It may be refused where it is made."""
    r = target.r
    if kind is None and r.random() < 0.12:
        return k.Plan.at_once(*(r.choice(KINDS)(target) for _ in range(r.randint(2, 3))))
    return (kind or r.choice(KINDS))(target)
