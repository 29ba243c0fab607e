"""How the time of every edit, and of every question to a model, grows with its layers and with its channels."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from statistics import median

import numpy as np
from growth_models import deep, wide
from timing import Settings, Times, chosen, figure, in_turns, markdown

from helpers.counting import calls
from helpers.kept import fresh
from helpers.records import layer
from kerassurgery_fn import (
    AddInput,
    ConvertDtype,
    DeepenLayer,
    DeleteBlock,
    DeleteChannels,
    DeleteLayer,
    ExtractModel,
    FlattenModel,
    FoldBatchNorm,
    InsertLayer,
    KeepChannels,
    MixInputs,
    NestLayers,
    Plan,
    RenameLayer,
    RenameModel,
    ReorderChannels,
    ReplaceHead,
    ReplaceLayer,
    SetConfig,
    SetInputShape,
    SetOutputs,
    SetTrainable,
    Snapshot,
    WidenChannels,
    analyse,
    cost,
    diff,
    groups,
    patch,
    plan_pruning,
    residual_blocks,
)
from kerassurgery_fn.measure.model_scoring import importance

LAYERS = (10, 100, 1_000, 3_000, 10_000)
CHANNELS = (16, 256, 4_096, 16_384)
DROPOUT = Snapshot(layer("Dropout", "dropout"), {})
Edit = Callable[[Snapshot], object]


def units_of(snapshot: Snapshot) -> int:
    return sum(name.startswith("kernel_") for name in snapshot.weights)


def questions(snapshot: Snapshot) -> dict[str, Edit]:
    """What is worked out of a model without a change."""
    smaller, scores = DeleteChannels("kernel_*", [0])(snapshot), importance(snapshot)
    changes = diff(snapshot, smaller)
    return {
        "analyse": analyse,
        "groups": groups,
        "residual_blocks": residual_blocks,
        "cost": cost,
        "importance": importance,
        "plan_pruning": lambda model: plan_pruning(model, scores, macs=0.5),
        "diff": lambda model: diff(model, fresh(smaller)),
        "patch": lambda model: patch(model, changes),
    }


def edits_of_one_layer(snapshot: Snapshot) -> dict[str, Edit]:
    """Edits in the middle of a model."""
    m = units_of(snapshot) // 4 * 2 + 1  # an odd one, which is a wide one in `wide`
    kernel, relu = f"kernel_{m}", f"relu_{m}"
    width = snapshot.weights[kernel][0].shape[-1]
    return {
        "DeleteChannels": DeleteChannels(kernel, [0]),
        "KeepChannels": KeepChannels(kernel, range(1, width)),
        "ReorderChannels": ReorderChannels(kernel, range(width)[::-1]),
        "WidenChannels": WidenChannels(kernel, width + 1),
        "DeleteLayer": DeleteLayer(relu),
        "InsertLayer": InsertLayer(DROPOUT, after=relu),
        "ReplaceLayer": ReplaceLayer(relu, DROPOUT),
        "RenameLayer": RenameLayer(relu, "renamed"),
        "RenameModel": RenameModel("renamed"),
        "SetConfig": SetConfig(relu, negative_slope=0.1),
        "SetTrainable": SetTrainable(kernel, False),
        "ConvertDtype": ConvertDtype("float16", kernel),
        "DeepenLayer": DeepenLayer(kernel, after=relu),
        "FoldBatchNorm": FoldBatchNorm(f"norm_{m}"),
        "SetInputShape": SetInputShape("x", (4, 4, 4)),
        "AddInput": AddInput("more", (3,)),
        "SetOutputs": SetOutputs(["head", "pool"]),
        "ExtractModel": ExtractModel(relu),
        "ReplaceHead": ReplaceHead(5),
        "NestLayers": NestLayers([f"norm_{m}", relu], "nested"),
    }


def edits_of_all_layers(snapshot: Snapshot) -> dict[str, Edit]:
    """Edits that change a share of all layers."""
    units = units_of(snapshot)
    return {
        "DeleteChannels": DeleteChannels("kernel_*", [0]),
        "KeepChannels": KeepChannels("kernel_*", [1, 2]),
        "WidenChannels": WidenChannels("kernel_*", snapshot.weights["kernel_1"][0].shape[-1] + 1),
        "DeleteLayer": DeleteLayer("relu_*"),
        "InsertLayer": InsertLayer(DROPOUT, after="relu_*"),
        "ReplaceLayer": ReplaceLayer("relu_*", DROPOUT),
        "RenameLayer, at once": Plan.at_once(*(RenameLayer(f"relu_{i}", f"renamed_{i}") for i in range(units))),
        "DeleteChannels, at once": Plan.at_once(*(DeleteChannels(f"kernel_{i}", [0]) for i in range(units))),
        "SetConfig": SetConfig("relu_*", negative_slope=0.1),
        "SetTrainable": SetTrainable("*", False),
        "ConvertDtype": ConvertDtype("float16"),
        "DeepenLayer": DeepenLayer("kernel_*"),
        "FoldBatchNorm": FoldBatchNorm(),
    }


def edits_of_a_chain(snapshot: Snapshot) -> dict[str, Edit]:
    """Edits that need a convolution which alone reads another one."""
    m = units_of(snapshot) // 2
    width = snapshot.weights[f"kernel_{m - 1}"][0].shape[-1]
    nested = NestLayers([f"norm_{m}", f"relu_{m}"], "nested")(snapshot)
    return {
        "MixInputs": MixInputs(f"kernel_{m}", f"kernel_{m - 1}", np.eye(width)[:, ::-1]),
        "FlattenModel": lambda _: FlattenModel("nested")(fresh(nested)),
    }


def edits_of_blocks(snapshot: Snapshot) -> dict[str, Edit]:
    """Edits of residual blocks."""
    return {"DeleteBlock": DeleteBlock(f"join_{units_of(snapshot) // 2}"), "DeleteBlock, all": DeleteBlock("join_*")}


def subjects_of(kind: str, snapshot: Snapshot) -> dict[str, Edit]:
    """Everything that is measured on a model of a kind, by name."""
    subjects = {
        **questions(snapshot),
        **edits_of_one_layer(snapshot),
        **{f"{name} of all layers": edit for name, edit in edits_of_all_layers(snapshot).items()},
        **(edits_of_a_chain(snapshot) if kind == "chain" else {}),
        **(edits_of_blocks(snapshot) if kind == "tower" else {}),
    }
    if kind == "wide":  # the new kernels would have as many elements as the square of the channels
        square = ("DeepenLayer", "WidenChannels of all layers")
        return {name: edit for name, edit in subjects.items() if not name.startswith(square)}
    return subjects


def on_fresh(edit: Edit, snapshot: Snapshot) -> object:
    return edit(fresh(snapshot))


def growth(sizes: Sequence[int], times: Mapping[int, Times]) -> float:
    """The exponent of the growth of the fastest turns: 1 if they grow in proportion to the sizes. It is the slope of a
    line through the logarithms.

    >>> round(growth([10, 100, 1000], {10: [1], 100: [100, 101], 1000: [10_000]}), 3)
    2.0
    """
    return float(np.polyfit(np.log(sizes), np.log([min(times[n]) for n in sizes]), 1)[0])


def measure(kind: str, sizes: Sequence[int], make: Callable[[int], Snapshot], settings: Settings) -> str:
    """A table: the time of each subject at each size, and the exponents of the growth of its time and of its calls.

    The exponent of the time is fitted to all sizes, and to those of at least a tenth of the largest, as that of the
    calls: at small sizes, fixed costs hide the growth. Of the times, the fastest turns count.
    """
    times: dict[str, dict[int, Times]] = {}
    counts: dict[str, dict[int, Times]] = {}
    for n in sizes:
        snapshot = make(n)
        subjects = chosen(subjects_of(kind, snapshot), settings)
        fresh_subjects = {name: partial(on_fresh, edit, snapshot) for name, edit in subjects.items()}
        turns = max(2, min(settings.turns, 3 * sizes[-1] // (10 * n)))
        for name, found in in_turns(fresh_subjects, settings._replace(turns=turns)).items():
            times.setdefault(name, {})[n] = found
            counts.setdefault(name, {})[n] = [float(calls(fresh_subjects[name]))]
    large = [n for n in sizes if n >= sizes[-1] / 10]
    rows = [
        [
            name,
            *(figure(median(found[n]) * 1000) for n in sizes),
            f"{growth(sizes, found):.2f}",
            f"{growth(large, found):.2f}",
            f"{growth(large, counts[name]):.2f}",
        ]
        for name, found in times.items()
    ]
    return markdown([f"{kind}, ms", *(f"{n:,}" for n in sizes), "exponent", f"from {large[0]:,} on", "of calls"], rows)


def main(settings: Settings) -> Iterator[str]:
    """The tables of this benchmark."""
    for kind in ("chain", "tower", "dense blocks"):
        yield measure(kind, LAYERS, partial(deep, kind), settings)
    yield measure("wide", CHANNELS, wide, settings)
