"""Random edits of a snapshot: of every class, with all of their fields, mostly such that they can be done."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from random import Random
from typing import Any

import keras
from random_layers import random_layer

import kerassurgery_fn as k
from kerassurgery_fn.channels import size
from kerassurgery_fn.flow import Flow
from kerassurgery_fn.frozen import get_in
from kerassurgery_fn.graph import Record, is_input, is_model, read_graph
from kerassurgery_fn.selecting import of_class
from kerassurgery_fn.snapshot import Snapshot

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
        """One layer or several, by path, bare name, pattern, class or several of these."""
        path = self.path(*classes)
        name = path.rpartition("/")[2]
        kind = self.records[path]["class_name"]
        return self.r.choice([
            path, path, path, path, name, of_class(kind), f"*@{kind}", f"{name[:-1]}*", (path, self.path(*classes)),
        ])  # fmt: skip

    def calls(self, path: Any) -> tuple[int, ...] | None:
        """Some of a layer's calls, all of them mostly."""
        total = len(self.records.get(path, {}).get("inbound_nodes") or [None])
        return (self.r.randrange(-total, total),) if self.r.random() < (0.5 if total > 1 else 0.1) else None

    def address(self) -> tuple[str, int]:
        """The address of some layer's channels, and how many there are."""
        (path, kind), maker = self.r.choice([*self.flow.makers.items()])
        first = next(other for layer, other in self.flow.makers if layer == path)
        return path if kind == first and self.r.random() < 0.7 else f"{path}:{kind}", size(maker.axis) or 1

    def addresses(self, of: Callable[[int], Any]) -> dict[str, Any]:
        pairs = [self.address() for _ in range(self.r.choice([1, 1, 1, 2, 3]))]
        return {address: of(n) for address, n in pairs}

    def new_layer(self, path: Any) -> Any:
        """A layer for what some layer is called on: an object, built or not, its record, or a model as a layer."""
        shape = read_shape(self.records.get(path, {}))
        while True:
            try:
                return self.layer_for(shape)
            except ValueError:  # of Keras: a layer that takes no tensor of that shape
                continue

    def layer_for(self, shape: tuple[int | None, ...]) -> Any:
        r = self.r
        layer = random_layer(r, shape) if r.random() < 0.6 else keeping(r, shape)
        if r.random() < 0.3 and None not in shape[1:]:
            return k.capture(keras.Sequential([keras.Input(shape[1:]), layer]))
        if r.random() < 0.4:
            layer(keras.Input(shape[1:]))
        return keras.saving.serialize_keras_object(layer) if r.random() < 0.1 else layer


def read_shape(record: Any) -> tuple[int | None, ...]:
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


def keeping(r: Random, shape: tuple[int | None, ...]) -> keras.layers.Layer:
    """A layer that leaves a shape as it is."""
    layers = keras.layers
    return r.choice([
        layers.Dropout(0.3), layers.ReLU(), layers.BatchNormalization(), layers.Identity(),
        layers.Dense(shape[-1] or 1), layers.LayerNormalization(), layers.Activation("tanh"),
    ])  # fmt: skip


def some(r: Random, n: int) -> list[int]:
    """Indices of less than half of n channels, now and then from the end."""
    chosen = r.sample(range(n), max(1, r.randint(0, n // 2))) if n > 1 else [0]
    return [i - n if r.random() < 0.1 else i for i in chosen]


def delete_channels(t: Target) -> Any:
    change = t.r.random() < 0.15
    return k.DeleteChannels(t.addresses(lambda n: some(t.r, n)), allow_output_change=change)


def delete_everywhere(t: Target) -> Any:
    """A deletion from all layers that a selector names, or of one whole group."""
    if t.r.random() < 0.5:
        free = [group for group in k.groups(t.snapshot) if not group.reasons]
        if free:
            return k.DeleteChannels(t.r.choice(free).channels([0]))
    return k.DeleteChannels(t.selector("Dense", "Conv2D"), [0], allow_output_change=t.r.random() < 0.5)


def keep_channels(t: Target) -> Any:
    return k.KeepChannels(t.addresses(lambda n: some(t.r, n)), allow_output_change=t.r.random() < 0.15)


def reorder_channels(t: Target) -> Any:
    return k.ReorderChannels(t.addresses(lambda n: t.r.sample(range(n), n)), allow_output_change=t.r.random() < 0.15)


def widen_channels(t: Target) -> Any:
    return k.WidenChannels(
        t.addresses(lambda n: n + t.r.randint(0, 4)), noise=t.r.choice([0, 0, 0, 0.1]), seed=t.r.randrange(9)
    )


def deepen_layer(t: Target) -> Any:
    layer = t.selector("Dense", "Conv1D", "Conv2D", "Conv3D")
    after = t.path("ReLU", "Activation", "BatchNormalization") if t.r.random() < 0.3 else None
    window = t.r.choice([None, None, None, 1, (3, 3)])
    return k.DeepenLayer(
        layer, after, calls=t.calls(layer), kernel_size=window, name=t.r.choice([None, None, "deeper"])
    )


def insert_layer(t: Target) -> Any:
    where = t.selector()
    side = t.r.choice(["before", "after"])
    operand = t.r.randrange(2) if side == "before" and t.r.random() < 0.3 else None
    name = t.r.choice([None, None, None, "new"])
    return k.InsertLayer(t.new_layer(where), **{side: where}, calls=t.calls(where), operand=operand, name=name)


def delete_layer(t: Target) -> Any:
    where = t.selector("Dropout", "ReLU", "Activation", "BatchNormalization", "Masking", "Identity", "PReLU")
    return k.DeleteLayer(where, calls=t.calls(where), allow_shape_change=t.r.random() < 0.3)


def replace_layer(t: Target) -> Any:
    where = t.selector()
    return k.ReplaceLayer(where, t.new_layer(where), calls=t.calls(where), name=t.r.choice([None, None, "new"]))


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
}  # fmt: skip


def set_config(t: Target) -> Any:
    path = t.path()
    fields = [name for name in FIELDS if name in t.records[path]["config"]] if t.r.random() < 0.95 else ["units", "odd"]
    if not fields:
        path, fields = t.path("Dense", "Dropout", "Conv2D"), ["activation", "rate"]
    names = t.r.sample(fields, min(len(fields), t.r.choice([1, 1, 2])))
    where = path if t.r.random() < 0.8 else of_class(t.records[path]["class_name"])
    return k.SetConfig(where, **{name: t.r.choice(FIELDS.get(name, [1])) for name in names})


def set_trainable(t: Target) -> Any:
    models = [path for path, record in t.records.items() if is_model(record)]
    where = t.r.choice([*models, f"{models[0]}/*"]) if models and t.r.random() < 0.3 else t.selector()
    return k.SetTrainable(t.r.choice([where, where, "*"]), t.r.random() < 0.4)


def rename_layer(t: Target) -> Any:
    return k.RenameLayer(t.path(), t.r.choice(["other", "other", t.path(), "a/b"]))


def convert_dtype(t: Target) -> Any:
    return k.ConvertDtype(t.r.choice(DTYPES), t.r.choice(["*", t.selector()]))


KINDS: list[Callable[[Target], Any]] = [
    delete_channels, delete_channels, delete_everywhere, keep_channels, reorder_channels, widen_channels, deepen_layer,
    insert_layer, insert_layer, delete_layer, replace_layer, unshare_layer, fold_batch_norm, replace_head,
    extract_model, set_config, set_config, set_trainable, rename_layer, convert_dtype,
]  # fmt: skip


def random_edit(target: Target, kind: Callable[[Target], Any] | None = None) -> Any:
    """An edit of one class or, now and then, several at once. It may be refused where it is made."""
    r = target.r
    if kind is None and r.random() < 0.12:
        return k.Plan.at_once(*(r.choice(KINDS)(target) for _ in range(r.randint(2, 3))))
    return (kind or r.choice(KINDS))(target)
