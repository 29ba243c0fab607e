"""Small models for pruning, written as records, with random weights; without Keras."""

import numpy as np
from toolz import concat

from helpers.records import call, functional, layer, sequential, snapshot
from kerassurgery_fn import LatencyTable, analyse, groups, layer_work
from kerassurgery_fn.analysis.layer_costs import cost_of, measure_of
from kerassurgery_fn.channels import size
from kerassurgery_fn.pruning.group_weights import named_groups
from kerassurgery_fn.pruning.layer_work import work_by

IMAGE = (None, 8, 8, 3)


def conv(name, filters, kernel=3, **config):
    return layer("Conv2D", name, filters=filters, kernel_size=[kernel, kernel], **config)


def norm(name):
    return layer("BatchNormalization", name)


def dense(name, units):
    return layer("Dense", name, units=units)


def filled(record, seed=0, dtype="float32"):
    """A snapshot of a record, with random weights of the shapes that the rules state."""
    rng = np.random.default_rng(seed)
    flow = analyse(snapshot(record))
    shapes = {path: [tuple(map(size, weight.axes)) for weight in weights] for path, weights in flow.weights.items()}
    weights = {path: tuple(rng.normal(size=shape).astype(dtype) for shape in arrays) for path, arrays in shapes.items()}
    return snapshot(record, {path: arrays for path, arrays in weights.items() if arrays})


def vgg(*widths, classes=4):
    """Convolutions with batch normalisation, and a classifier on the flattened image."""
    blocks = [[conv(f"conv_{i}", n, 1), norm(f"bn_{i}"), layer("ReLU", f"relu_{i}")] for i, n in enumerate(widths)]
    flat = [layer("Flatten", "flat"), dense("top", classes)]
    return sequential("vgg", IMAGE, *(record for block in blocks for record in block), *flat)


def residual(width=6, inside=5):
    """Two residual blocks on one stream of channels."""
    return functional(
        "residual", {"x": IMAGE},
        call(conv("stem", width, 1), "x"),
        call(conv("a_1", inside, 1), "stem"),
        call(conv("a_2", width, 1), "a_1"),
        call(layer("Add", "a"), ["stem", "a_2"]),
        call(norm("bn"), "a"),
        call(conv("b_1", inside, 1), "bn"),
        call(conv("b_2", width, 1), "b_1"),
        call(layer("Add", "b"), ["a", "b_2"]),
        call(layer("GlobalAveragePooling2D", "pool"), "b"),
        call(dense("top", 3), "pool"),
        outputs="top",
    )  # fmt: skip


def grouped(groups=4):
    """A convolution in groups: its lines are groups, places of inputs and places of outputs."""
    return sequential(
        "grouped", IMAGE, conv("first", 4 * groups, 1), conv("apart", 6 * groups, groups=groups), conv("last", 5),
        layer("Flatten", "flat"), dense("top", 2),
    )  # fmt: skip


def halves_joined():
    """A convolution to whose first four channels another one is added: its channels are in two groups."""
    return functional(
        "halves", {"x": IMAGE},
        call(conv("wide", 16, 1), "x"),
        call(conv("p", 8, 1), "x"),
        call(conv("q", 8, 1), "x"),
        call(layer("Concatenate", "pq"), ["p", "q"]),
        call(layer("Add", "sum"), ["wide", "pq"]),
        call(conv("out", 2), "sum"),
        outputs="out",
    )  # fmt: skip


def joined(*widths):
    """Convolutions side by side whose channels another one reads."""
    names = [f"branch_{i}" for i in range(len(widths))]
    return functional(
        "joined", {"x": IMAGE},
        *(call(conv(name, n, 1), "x") for name, n in zip(names, widths, strict=True)),
        call(layer("Concatenate", "all"), names),
        call(conv("mix", 8, 1), "all"),
        call(layer("Flatten", "flat"), "mix"),
        call(dense("top", 3), "flat"),
        outputs="top",
    )  # fmt: skip


def chain(length, width=4):
    """Dense layers one after the other."""
    return sequential("chain", (None, width), *(dense(f"d_{i}", width) for i in range(length)))


def latencies(*snapshots, seed=0):
    """A latency table for some models: random times at four works of each layer, which may fall with the work."""
    rng, works = np.random.default_rng(seed), {}
    for each in concat(map(layer_work, snapshots)):
        works.setdefault(each.signature, set()).add(each.work)
    return LatencyTable({
        signature: [(int(part * work) + 1, part * work * rng.uniform(0.005, 0.02) + 0.1)
                    for work in some for part in (0.2, 0.5, 0.6, 1)]
        for signature, some in works.items()
    })  # fmt: skip


# --- what a plan does


def channels_of(snapshot):
    return sum(len(group) for group in groups(snapshot) if group.made and not group.pinned)


def dead_of(plan, snapshot):
    none = analyse(snapshot).solution.none_dead()
    return np.logical_or.reduce([none, *(edit.ids_to_delete(snapshot, analyse(snapshot)) for edit in plan.edits)])


# Models with groups of every kind, for plans: a name and how the model is made.
PLANNED_MODELS = {
    "vgg": lambda: vgg(12, 16), "residual": lambda: residual(12, 10), "groups": grouped, "halves": halves_joined,
    "branches": lambda: joined(6, 8, 10),
}  # fmt: skip


def assert_within_one_channel(snapshot, plan, figure, target, table=None):
    """The budget is missed with one channel more of some group."""
    flow = analyse(snapshot)
    dead = dead_of(plan, snapshot)
    if figure == "channels":
        return
    more = []
    for group in named_groups(groups(snapshot)).values():
        gone = group.ids[dead[group.ids]]
        if len(gone):
            without = dead.copy()
            without[gone[0]] = False
            more.append(figure_of(snapshot, flow, without, figure, table))
    assert max(more) > target


def figure_of(snapshot, flow, dead, figure, table):
    """A figure of a model without some ids. A latency is in nanoseconds."""
    if figure != "latency":
        return getattr(cost_of(snapshot, flow, dead), figure)
    works = work_by(snapshot, flow, measure_of(flow, dead))
    return sum(table.nanoseconds(each.signature, each.work) for each in works)
