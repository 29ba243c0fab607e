"""`measure_latencies`: how long the layers of a model take on this machine, at several widths."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
from toolz import groupby

from kerassurgery_fn.analysis.input_shapes import Shapes, as_shapes
from kerassurgery_fn.arguments import as_count, as_model_or_snapshot, items_of, optional, shortened, takes
from kerassurgery_fn.errors import BadValue, InexactCut, SurgeryError, UnreachableBudget
from kerassurgery_fn.graph import Call
from kerassurgery_fn.measure.layer_models import LayerModels
from kerassurgery_fn.measure.layer_runtimes import Run, as_runtime, runner, timed
from kerassurgery_fn.measure.model_scoring import captured
from kerassurgery_fn.measure.progress_bars import as_progress, with_progress
from kerassurgery_fn.pruning.channel_scores import Scores
from kerassurgery_fn.pruning.latency_tables import LatencyTable
from kerassurgery_fn.pruning.layer_work import LayerWork
from kerassurgery_fn.pruning.pruning_plans import plan_pruning
from kerassurgery_fn.pruning.pruning_problem import prunable_model
from kerassurgery_fn.values.snapshot import Snapshot

FRACTIONS = (1.0, 0.8, 0.6, 0.4, 0.2, 0.1)
MOST = 16  # works at which a layer is measured


class Subject(NamedTuple):
    """A call of a layer to measure, in one of the cut models."""

    work: LayerWork
    call: Call
    models: LayerModels


def as_fractions(value: Any, name: str = "fractions") -> tuple[float, ...]:
    """Fractions of channels, in descending order.

    Raises:
        BadValue: a fraction is not above 0 and up to 1, or there are none.
    """
    listed = [value] if isinstance(value, int | float) else items_of(value) or []
    numbers = [each for each in listed if isinstance(each, int | float | np.number) and not isinstance(each, bool)]
    if numbers and len(numbers) == len(listed) and all(0 < each <= 1 for each in numbers):
        return tuple(sorted({float(each) for each in numbers}, reverse=True))
    raise BadValue(f"{name}: expected fractions of channels up to 1, such as {FRACTIONS}, not {shortened(value)}")


@takes(
    model=as_model_or_snapshot, fractions=as_fractions, shapes=optional(as_shapes), runtime=as_runtime,
    threads=as_count, repeats=as_count, progress=as_progress,
)  # fmt: skip
def measure_latencies(
    model: Any,
    *,
    fractions: Sequence[float] = FRACTIONS,
    shapes: Shapes | None = None,
    runtime: str | None = None,
    threads: int = 1,
    repeats: int = 31,
    progress: Any = None,
) -> LatencyTable:
    """How long each layer of a model takes on this machine, at several widths, for budgets of latency.

        table = measure_latencies(model)
        result = prune(model, latency=0.5, latency_table=table)
        save_latencies(table, "latencies.json")

    The model is cut to some fractions of all channels, and each distinct layer of the cut models is run alone, as a
    small model, with one sample. A layer that has no multiply-accumulates and keeps the shape of its tensor is run
    after the layers that it reads, and the difference counts: it is zero where the runtime computes both at once, as
    LiteRT does with batch normalisations and activations after convolutions. A difference within the spread of the
    measurements counts as zero.

    The table knows the layers of this model. `a | b` joins the tables of several models.

    Args:
        model: a Keras model, or a snapshot.
        fractions: the fractions of channels at which layers are measured. Groups that cannot be cut keep their width.
        shapes: the shape of one sample, for models with variable input size, as for `cost`.
        runtime: `litert`: LiteRT (`pip install ai-edge-litert`), or the TensorFlow Lite of TensorFlow. `keras`: Keras
            on this machine. By default LiteRT where it is installed.
        threads: the number of threads of LiteRT. Keras uses those of its backend.
        repeats: how often each layer is run. The lower quartile of the times counts, because other programs on the
            machine only add time.
        progress: as for `measure_statistics`, a step for each signature of layers.

    Returns:
        Signature of each layer -> points (work, microseconds).

    Raises:
        BadValue: a fraction is not above 0 and up to 1, the runtime is unknown, or the model has no layers.
        SurgeryError: the runtime is not installed, or cannot run a layer; the message names the layer.
        WrongShape: an input has a variable size, and `shapes` does not state it.
    """
    snapshot = model if isinstance(model, Snapshot) else captured(model)
    runtime = as_runtime(runtime)
    models = [LayerModels(each, shapes) for each in cut_models(snapshot, fractions)]
    subjects = [Subject(work, call, each) for each in models for work, call in each.works]
    by_signature = groupby(lambda subject: subject.work.signature, subjects)
    steps = with_progress(by_signature.items(), len(by_signature), progress, "layer")
    return LatencyTable({signature: measured(some, runtime, threads, repeats) for signature, some in steps})


def cut_models(snapshot: Snapshot, fractions: Sequence[float]) -> Iterator[Snapshot]:
    """The model with each of some fractions of the channels of every group, as far as its groups can be cut."""
    named = prunable_model(snapshot).named
    alike = Scores({name: np.ones(len(group)) for name, group in named.items() if not group.pinned}, "widths")
    for fraction in fractions:
        if fraction == 1:
            yield snapshot
            continue
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", InexactCut)
                yield plan_pruning(snapshot, alike, ratios=1 - fraction, scope="local", inexact=True)(snapshot)
        except UnreachableBudget:  # no group can be cut
            yield snapshot


def measured(subjects: Sequence[Subject], runtime: str, threads: int, repeats: int) -> list[tuple[int, float]]:
    """The points (work, microseconds) of the calls with one signature."""
    distinct = spaced([*{subject.work.work: subject for subject in subjects}.values()])
    before = [[subject.models.calls[key] for key in subject.work.before] for subject in distinct]
    runs = [
        run_of(subject, [*calls, subject.call], runtime, threads)
        for subject, calls in zip(distinct, before, strict=True)
    ]
    runs += [run_of(subject, calls, runtime, threads) for subject, calls in zip(distinct, before, strict=True) if calls]
    times, spreads = timed([*runs, runner(idle_model(), runtime, threads)], repeats)
    others = iter(zip(times[len(distinct) :], spreads[len(distinct) :], strict=True))
    points = []
    for subject, calls, time, spread in zip(distinct, before, times, spreads, strict=False):
        less, other_spread = next(others) if calls else (times[-1], 0.0)
        noise = spread + other_spread if calls else 0.0
        points.append((subject.work.work, time - less if time - less > noise else 0.0))
    return points


def spaced(subjects: Sequence[Subject]) -> list[Subject]:
    """At most `MOST` of some subjects, evenly spaced by their work, the least and the most among them."""
    ordered = sorted(subjects, key=lambda subject: subject.work.work)
    places = np.unique(np.linspace(0, len(ordered) - 1, MOST).round().astype(int))
    return [ordered[place] for place in places]


def run_of(subject: Subject, calls: Sequence[Call], runtime: str, threads: int) -> Run:
    """A function that runs some calls of layers once.

    Raises:
        SurgeryError: the runtime cannot run them; the message names the layer.
        WrongShape: an input has a variable size.
    """
    model = subject.models.model(calls)
    try:
        return runner(model, runtime, threads)
    except Exception as error:  # converters and backends raise errors of their own, of many lines
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise SurgeryError(
            f"the latency of layer {subject.call.path!r} ({subject.call.record['class_name']}) cannot be measured by "
            f"runtime={runtime!r}: {reason[:300]}"
        ) from error


def idle_model() -> keras.Model:
    """A model that computes nothing. Its time is that of a call of the runtime."""
    tensor = keras.Input(batch_shape=(1, 1))
    return keras.Model([tensor], [keras.layers.Identity()(tensor)])
