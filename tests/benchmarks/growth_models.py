"""Models of any depth and width for the benchmark of growth: records and weights, written without Keras.

A model is a row of units of four layers, a 1 x 1 convolution, a normalisation, a ReLU and what joins the unit to the
tensor before it, behind a first convolution `stem`:

    chain         kernel_i -> norm_i -> relu_i
    tower         kernel_i -> norm_i -> relu_i -> join_i, an Add of the tensor before the unit
    dense blocks  kernel_i -> norm_i -> relu_i -> join_i, a Concatenate with the tensor before the unit; each
                  `BLOCK` units, a convolution `shrink_i` with few filters starts the next block
"""

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np

from helpers.records import call, functional, layer, snapshot
from kerassurgery_fn.values.snapshot import Snapshot

WIDTH = 4
BLOCK = 8
SPACE = (None, 8, 8)


def convolution(name: str, filters: int) -> dict:
    return layer("Conv2D", name, filters=filters, kernel_size=[1, 1])


def unit(i: int, before: str, filters: int) -> Iterator[tuple]:
    """The calls of the convolution, the normalisation and the ReLU of a unit."""
    yield call(convolution(f"kernel_{i}", filters), before)
    yield call(layer("BatchNormalization", f"norm_{i}"), f"kernel_{i}")
    yield call(layer("ReLU", f"relu_{i}"), f"norm_{i}")


def head(before: str) -> Iterator[tuple]:
    yield call(layer("GlobalAveragePooling2D", "pool"), before)
    yield call(layer("Dense", "head", units=3), "pool")


def chain_calls(units: int) -> Iterator[tuple]:
    yield call(convolution("stem", WIDTH), "x")
    for i in range(units):
        yield from unit(i, f"relu_{i - 1}" if i else "stem", WIDTH)
    yield from head(f"relu_{units - 1}")


def joined_calls(units: int, join: str, block: int | None = None) -> Iterator[tuple]:
    """Units whose output a layer joins with their input; a convolution restores the width after each block of units."""
    yield call(convolution("stem", WIDTH), "x")
    before = "stem"
    for i in range(units):
        yield from unit(i, before, WIDTH)
        yield call(layer(join, f"join_{i}"), [before, f"relu_{i}"])
        before = f"join_{i}"
        if block and i % block == block - 1:
            yield call(convolution(f"shrink_{i}", WIDTH), before)
            before = f"shrink_{i}"
    yield from head(before)


CALLS: dict[str, Callable[[int], Iterator[tuple]]] = {
    "chain": chain_calls,
    "tower": partial(joined_calls, join="Add"),
    "dense blocks": partial(joined_calls, join="Concatenate", block=BLOCK),
}


def deep(kind: str, layers: int) -> Snapshot:
    """A chain, a tower or dense blocks with about this number of layers."""
    units = max(2, layers // (3 if kind == "chain" else 4))
    return filled(functional(kind, {"x": (*SPACE, WIDTH)}, *CALLS[kind](units), outputs="head"))


def wide(channels: int) -> Snapshot:
    """A model with few layers and many channels, whose weights grow in proportion to the channels: every second
    convolution has four filters."""
    calls = [
        one
        for i, filters in enumerate((WIDTH, channels, WIDTH, channels, WIDTH))
        for one in unit(i, f"relu_{i - 1}" if i else "x", filters)
    ]
    return filled(functional("wide", {"x": (*SPACE, WIDTH)}, *calls, *head("relu_4"), outputs="head"))


def filled(record: dict) -> Snapshot:
    """The snapshot of a record with random weights."""
    rng = np.random.default_rng(0)
    shapes = {one["config"]["name"]: weight_shapes(one) for one in record["config"]["layers"]}
    weights = {
        name: tuple(rng.uniform(0.5, 1.5, shape).astype("float32") for shape in own)
        for name, own in shapes.items()
        if own
    }
    return snapshot(record, weights)


def weight_shapes(record: dict) -> list[tuple[int, ...]]:
    """The shapes of the weights of a built layer."""
    config = record["config"]
    if record["class_name"] == "Conv2D":
        depth = record["build_config"]["input_shape"][-1]
        return [(1, 1, depth, config["filters"]), (config["filters"],)]
    if record["class_name"] == "Dense":
        return [(record["build_config"]["input_shape"][-1], config["units"]), (config["units"],)]
    if record["class_name"] == "BatchNormalization":
        return [(record["build_config"]["input_shape"][-1],)] * 4
    return []
