"""How fast surgery is, beside what it is to be held against: `python tests/benchmarks/benchmark.py [repetitions]`.

Things that are compared take turns within one run, and each figure is the median of its turns. A line with a target
says whether it was met; what the figures are on another machine, only that machine can say.
"""

import gc
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from statistics import median
from time import perf_counter
from typing import NamedTuple

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["CUDA_VISIBLE_DEVICES"] = "-1"

import keras
import numpy as np
import tensorflow as tf

from kerassurgery_fn import (
    DeleteChannels,
    DeleteLayer,
    FoldBatchNorm,
    SetTrainable,
    Snapshot,
    analyse,
    capture,
    importance,
    plan_pruning,
    prune,
    rebuild,
)
from kerassurgery_fn.analysis.channel_flow import Flow
from kerassurgery_fn.analysis.coupled_groups import Groups, groups_of
from kerassurgery_fn.analysis.layer_costs import cost_of
from kerassurgery_fn.edits.steps.cutting import cut
from kerassurgery_fn.measure.channel_views import views_of_free_channels
from kerassurgery_fn.measure.criterion_statistics import Options
from kerassurgery_fn.measure.input_batches import batches
from kerassurgery_fn.measure.sample_losses import objective_of
from kerassurgery_fn.measure.statistics_pass import added_up, start_pass
from kerassurgery_fn.pruning.criterion_registry import CRITERIA
from kerassurgery_fn.values.frozen import FrozenDict


class Line(NamedTuple):
    """A line of the table: what is measured, how much it is, what it is held against, and what it should not exceed.

    The target is in the unit of the figure, or a ratio where there is something to hold it against.
    """

    what: str
    figure: float
    unit: str
    against: str = ""
    other: float | None = None
    target: float | None = None

    @property
    def ratio(self) -> float | None:
        return None if self.other is None else self.figure / self.other

    @property
    def met(self) -> bool:
        return self.target is None or (self.figure if self.ratio is None else self.ratio) <= self.target

    def cells(self) -> tuple[str, ...]:
        other = "" if self.other is None else f"{self.other:,.4g} {self.unit}"
        bound = (
            "" if self.target is None else f"<= {self.target:g}{' x' if self.other is not None else f' {self.unit}'}"
        )
        return (
            self.what, f"{self.figure:,.4g} {self.unit}", self.against, other,
            "" if self.ratio is None else f"{self.ratio:.2f} x", bound,
            "" if self.target is None else "met" if self.met else "MISSED",
        )  # fmt: skip


HEAD = ("", "figure", "against", "", "ratio", "target", "")
LEFT = {0, 2}


def table(lines: list[Line]) -> str:
    rows = [HEAD, *(line.cells() for line in lines)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    aligned = [
        [cell.ljust(n) if i in LEFT else cell.rjust(n) for i, (cell, n) in enumerate(zip(row, widths, strict=True))]
        for row in rows
    ]
    return "\n".join("  ".join(row).rstrip() for row in aligned)


def in_turns(subjects: Mapping[str, Callable[[], object]], repetitions: int) -> dict[str, float]:
    """The median time of each subject in milliseconds: all take a turn, then all take the next. One turn is for
    warming up, and rubbish is collected before each."""
    times: dict[str, list[float]] = {name: [] for name in subjects}
    for turn in range(repetitions + 1):
        for name, subject in subjects.items():
            gc.collect()
            start = perf_counter()
            made = subject()
            elapsed = perf_counter() - start
            del made
            if turn:
                times[name].append(elapsed * 1000)
    return {name: median(found) for name, found in times.items()}


def halves(groups: Groups) -> dict[str, tuple[int, ...]]:
    """Every second channel of every group that can be cut, as `DeleteChannels` takes them."""
    channels: dict[str, tuple[int, ...]] = {}
    for group in groups:
        if not group.pinned:
            for address, positions in group.channels(range(0, len(group), 2)).items():
                channels[address] = (*channels.get(address, ()), *positions)
    return channels


def shared(before: Snapshot, after: Snapshot) -> tuple[int, int, int, int]:
    """Arrays of `after` that are the very arrays of `before`, arrays in all, and the same of records of layers."""
    arrays = [(a, b) for path, old in before.weights.items() for a, b in zip(old, after.weights[path], strict=True)]
    records = list(zip(before.config["layers"], after.config["layers"], strict=True))
    return sum(a is b for a, b in arrays), len(arrays), sum(a is b for a, b in records), len(records)


def unknown(snapshot: Snapshot) -> Snapshot:
    """An equal snapshot of which nothing has been computed yet."""
    return Snapshot(FrozenDict(snapshot.record), snapshot.weights, snapshot.training)


# --- what is measured


def measure_analysis(name: str, target: float, repetitions: int) -> Iterator[Line]:
    snapshot = capture(getattr(keras.applications, name)(weights=None))
    flow = analyse(snapshot)
    times = in_turns(
        {
            "analyse": lambda: analyse(unknown(snapshot)),
            "again": lambda: analyse(snapshot),
            "groups": lambda: groups_of(replace(flow)),
            "cost": lambda: cost_of(snapshot, flow),
        },
        repetitions,
    )
    yield Line(f"analysis of {name}", times["analyse"], "ms", target=target)
    yield Line("  the same analysis again", times["again"], "ms", "the first", times["analyse"], target=0.02)
    yield Line("  its groups, beyond that", times["groups"], "ms", target={"ResNet50": 30, "DenseNet121": 100}[name])
    yield Line("  its cost, beyond that", times["cost"], "ms", target={"ResNet50": 5}.get(name))


def measure_cut(snapshot: Snapshot, flow: Flow, repetitions: int) -> Iterator[Line]:
    dead = flow.solution.none_dead()
    for group in groups_of(flow):
        dead[group.ids[::2]] = not group.pinned
    kept = [array for arrays in cut(snapshot, flow, dead).weights.values() for array in arrays]
    times = in_turns(
        {"cut": lambda: cut(snapshot, flow, dead), "copy": lambda: [np.copy(array) for array in kept]}, repetitions
    )
    yield Line("half of the channels cut", times["cut"], "ms", "np.copy of what is kept", times["copy"], target=3)


def measure_pipeline(model: keras.Model, edit: DeleteChannels, repetitions: int) -> Iterator[Line]:
    def clone() -> keras.Model:
        copy = keras.models.clone_model(model)
        copy.set_weights(model.get_weights())
        return copy

    snapshot = capture(model)
    smaller = edit(snapshot)
    times = in_turns(
        {
            "pipe": lambda: rebuild(edit(capture(model))),
            "clone": clone,
            "capture": lambda: capture(model),
            "edit": lambda: edit(unknown(snapshot)),
            "rebuild": lambda: rebuild(smaller),
        },
        repetitions,
    )
    yield Line(
        "capture, edit and rebuild", times["pipe"], "ms", "clone_model and set_weights", times["clone"], target=1
    )
    yield from (Line(f"  {step} alone", times[step], "ms") for step in ("capture", "edit", "rebuild"))


def measure_pruning(repetitions: int) -> Iterator[Line]:
    snapshot = capture(keras.applications.ResNet50(weights=None))
    sys.setrecursionlimit(20_000)  # Keras follows a chain by recursion
    chain = capture(keras.Sequential([keras.Input((8,)), *(keras.layers.Dense(8) for _ in range(1000))]))
    scores, scores_of_chain = importance(snapshot), importance(chain)
    weights = [array for arrays in snapshot.weights.values() for array in arrays]
    times = in_turns(
        {
            "scores": lambda: importance(unknown(snapshot)),
            "read": lambda: [np.abs(array).sum() for array in weights],
            "plan": lambda: plan_pruning(unknown(snapshot), scores, macs=0.5),
            "chain": lambda: plan_pruning(unknown(chain), scores_of_chain, macs=0.5),
        },
        repetitions,
    )
    yield Line("magnitude scores of ResNet50", times["scores"], "ms", "np.abs(w).sum() of it", times["read"], target=3)
    yield Line("plan for half of its MACs", times["plan"], "ms", target=300)
    yield Line("  and for half of those of 1,000 layers", times["chain"], "ms", target=1000)


def measure_prune(repetitions: int) -> Iterator[Line]:
    model = keras.applications.InceptionV3(weights=None)

    def clone() -> keras.Model:
        copy = keras.models.clone_model(model)
        copy.set_weights(model.get_weights())
        return copy

    times = in_turns({"prune": lambda: prune(model, macs=0.5), "clone": clone}, repetitions)
    yield Line("InceptionV3 pruned", times["prune"], "ms", "clone_model and set_weights", times["clone"], target=1)


def measure_passes(repetitions: int, samples: int = 16, batch_size: int = 8) -> Iterator[Line]:
    """Statistics of data against what Keras does on the same data; all functions are compiled beforehand."""
    model = keras.applications.ResNet50(weights=None)
    model.compile("sgd", "sparse_categorical_crossentropy", jit_compile=False)
    rng = np.random.default_rng(0)
    data = rng.random((samples, 224, 224, 3), "float32"), rng.integers(0, 1000, samples)
    snapshot = capture(model)

    def pass_of(by: str) -> Callable[[], object]:
        options = Options(views_of_free_channels, objective_of(model))
        measure = start_pass(CRITERIA[by].needs, snapshot, options, model)
        return lambda: added_up(map(measure, batches(data, batch_size, None)))

    @tf.function
    def gradients(x: tf.Tensor, y: tf.Tensor) -> list[tf.Tensor]:
        with tf.GradientTape() as tape:
            loss = model.compute_loss(x, y, model(x, training=True))
        return tape.gradient(loss, [weight.value for weight in model.trainable_weights])

    def epoch() -> None:
        for batch in batches(data, batch_size, None):
            gradients(tf.constant(batch.x), tf.constant(batch.y))

    subjects = {by: pass_of(by) for by in ("apoz", "variance", "hrank", "thinet", "taylor", "lfh", "snip")}
    subjects |= {"predict": lambda: model.predict(data[0], batch_size=batch_size, verbose=0), "epoch": epoch}
    times = in_turns(subjects, repetitions)
    for by, target in {"apoz": 1.5, "variance": 1.5, "thinet": None, "hrank": None}.items():
        yield Line(f"statistics for {by} on {samples} images", times[by], "ms", "predict", times["predict"], target)
    for by in ("taylor", "lfh", "snip"):
        yield Line(f"statistics for {by}", times[by], "ms", "gradients of an epoch", times["epoch"], target=1.5)


def measure_edits(snapshot: Snapshot, repetitions: int) -> Iterator[Line]:
    """Edits of all layers of a model, beside one analysis of it."""
    edits = {
        "all normalisations folded": FoldBatchNorm(),
        "all activations deleted": DeleteLayer("*@Activation"),
        "all layers frozen": SetTrainable("*", False),
    }
    subjects = {name: partial(lambda edit: edit(unknown(snapshot)), edit) for name, edit in edits.items()}
    times = in_turns({**subjects, "analysis": lambda: analyse(unknown(snapshot))}, repetitions)
    yield from (Line(name, times[name], "ms", "an analysis", times["analysis"], target=10) for name in edits)


def measure_sharing(snapshot: Snapshot, groups: Groups) -> Iterator[Line]:
    """Everything that a cut does not touch is to be shared."""
    edit = DeleteChannels(groups[1].channels([0]))
    arrays, all_arrays, records, all_records = shared(snapshot, edit(snapshot))
    touched = {(carrier.path, carrier.slot) for carrier in groups[1].carried}
    yield Line("arrays that a cut of one channel copies", all_arrays - arrays, "of them", target=len(touched))
    yield Line("  arrays that it shares", arrays, "of them", "all", all_arrays)
    yield Line("  records of layers that it shares", records, "of them", "all", all_records)


def measure_import(repetitions: int) -> Iterator[Line]:
    def run(code: str) -> Callable[[], object]:
        return lambda: subprocess.run([sys.executable, "-c", code], check=True)

    codes = {
        "pass": "pass",
        "package": "import kerassurgery_fn",
        "edit": "from kerassurgery_fn import DeleteChannels",
        "numpy": "import numpy",
    }
    times = in_turns({name: run(code) for name, code in codes.items()}, repetitions)
    yield Line("import kerassurgery_fn, in a process", times["package"], "ms", target=300)
    yield Line("  against an empty process", times["package"], "ms", "python -c pass", times["pass"])
    yield Line("  with an edit and what it needs", times["edit"], "ms", "import numpy", times["numpy"])


def main(repetitions: int = 7) -> None:
    lines = [*measure_import(repetitions)]
    lines += measure_analysis("ResNet50", 20, repetitions)
    lines += measure_analysis("DenseNet121", 60, repetitions)
    model = keras.applications.ResNet50(weights=None)
    snapshot = capture(model)
    flow = analyse(snapshot)
    groups = groups_of(flow)
    lines += measure_cut(snapshot, flow, repetitions)
    lines += measure_pipeline(model, DeleteChannels(halves(groups)), repetitions)
    lines += measure_edits(snapshot, repetitions)
    lines += measure_sharing(snapshot, groups)
    lines += measure_pruning(repetitions)
    lines += measure_prune(repetitions)
    lines += measure_passes(repetitions)
    sys.stdout.write(table(lines) + "\n")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
