"""Translates jobs on a live model into edits of its snapshot.

All jobs refer to the original model. The edits of layers run first, in one traversal. Then all channels are cut at
once, so inserted layers are cut, too, and deleted layers do not pin channels.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from toolz import groupby

from kerassurgery_fn.edits import DeleteChannels, DeleteLayer, InsertLayer, RenameLayer, ReplaceLayer, UnshareLayer
from kerassurgery_fn.edits.base import Edit
from kerassurgery_fn.edits.plan import AtOnce, Plan
from kerassurgery_fn.edits.steps.indices import Masked
from kerassurgery_fn.errors import UnknownJob
from kerassurgery_fn.graph import read_graph, unused
from kerassurgery_fn.keras_io.own_objects import revivable
from kerassurgery_fn.keras_surgeon.nodes import Calls
from kerassurgery_fn.values.snapshot import Snapshot

if TYPE_CHECKING:
    import keras

# The jobs of Keras-surgeon, and the argument that each requires.
JOBS = {"delete_layer": None, "insert_layer": "new_layer", "replace_layer": "new_layer", "delete_channels": "channels"}


@dataclass(frozen=True)
class Job:
    """An operation on some calls of a layer. `argument` is the channels, the new layer, or the name of a new layer."""

    kind: str
    calls: Calls
    argument: Any = None


def job_of(kind: str, calls: Calls, channels: Any = None, new_layer: Any = None) -> Job:
    """A job with its argument.

    Raises:
        UnknownJob: the kind is unknown, or the required argument is missing.
        ChannelOutOfRange: the channels are neither indices nor a mask.
    """
    if kind not in [*JOBS]:  # a list, because `kind` can be unhashable
        raise UnknownJob(f"{kind!r} is not a job; the jobs are {', '.join(JOBS)}")
    argument = {"channels": channels, "new_layer": new_layer, None: ()}[JOBS[kind]]
    if argument is None:
        raise UnknownJob(f"the job {kind!r} for layer {calls.path!r} requires {JOBS[kind]}=; pass it to add_job")
    if JOBS[kind] == "channels":
        argument = DeleteChannels(calls.path, argument).channels[calls.path]  # converts and checks
    return Job(kind, calls, argument)


def operate(model: keras.Model, jobs: Sequence[Job]) -> keras.Model:
    """A new Functional model with all jobs done, not compiled. The model itself is not changed.

    Inexact cuts give a warning, which points to the line that called the library.
    """
    from kerassurgery_fn.keras_io.rebuilding import rebuild

    new_layers = [job.argument for job in jobs if is_layer(job.argument)]
    with revivable(layer for root in (model, *new_layers) for layer in root._flatten_layers()):
        snapshot = snapshot_of(model)
        layer_edits, cut = edits_of(jobs, snapshot)
        return rebuild(cut(layer_edits(snapshot)), safe_mode=False)


def with_separate_calls(model: keras.Model, calls: Calls) -> tuple[keras.Model, Calls]:
    """An equivalent model with a new layer for some calls of a shared layer, and the calls of the new layer."""
    with revivable(model._flatten_layers()):
        name = unused(f"{calls.path}_apart", read_graph(snapshot_of(model)).places)
    numbers = tuple(range(len(calls.numbers)))
    return operate(model, [Job("unshare", calls, name)]), Calls(name, numbers, len(numbers))


def snapshot_of(model: keras.Model) -> Snapshot:
    """The snapshot of a model as a Functional model, without its compile config."""
    from kerassurgery_fn.keras_io.capturing import capture_graph

    return capture_graph(as_functional(model))


def as_functional(model: keras.Model) -> keras.Model:
    """A Sequential model as a Functional model; any other model unchanged."""
    from keras import Model, Sequential

    from kerassurgery_fn.keras_io.model_classes import warn_of_plain_model

    if not isinstance(model, Sequential) or getattr(model, "_functional", None) is None:
        return model
    warn_of_plain_model(model, "Functional", "operations convert a Sequential model into a Functional model")
    return Model(model.inputs[0], model.outputs[0], name=model.name)


def edits_of(jobs: Iterable[Job], snapshot: Snapshot) -> tuple[AtOnce, DeleteChannels]:
    """The edits of layers, and the deletion of channels that follows them."""
    jobs_by_kind = defaultdict(list, groupby(attrgetter("kind"), jobs))
    channels, unshare_jobs = group_by_channels(jobs_by_kind["delete_channels"], read_graph(snapshot).places)
    edits = [to_edit(job) for kind, to_edit in LAYER_EDITS.items() for job in jobs_by_kind[kind]]
    edits += unshare_edits([*jobs_by_kind["unshare"], *unshare_jobs], jobs_by_kind["replace_layer"])
    return Plan.at_once(*edits), DeleteChannels(channels, allow_output_change=True)


LAYER_EDITS: dict[str, Callable[[Job], Edit]] = {
    "insert_layer": lambda job: InsertLayer(as_new(job.argument), before=job.calls.path, calls=job.calls.selection),
    "delete_layer": lambda job: DeleteLayer(job.calls.path, calls=job.calls.selection, allow_shape_change=True),
    "replace_layer": lambda job: ReplaceLayer(job.calls.path, as_new(job.argument), calls=job.calls.selection),
}


def as_new(layer: Any) -> Any:
    """A new layer in the form that edits take: a model as a snapshot, any other layer unchanged."""
    from kerassurgery_fn.keras_io.capturing import capture_graph

    return capture_graph(layer) if is_layer(layer) and hasattr(layer, "fit") else layer


def is_layer(value: Any) -> bool:
    """Whether a value is a Keras layer or model."""
    return hasattr(value, "_flatten_layers") and not isinstance(value, type)


def unshare_edits(jobs: Iterable[Job], replace_jobs: Iterable[Job]) -> Iterator[Edit]:
    """The edits that give some calls of a shared layer a separate layer with a new name.

    If other jobs change all other calls, the last calls do not need a copy of the layer; the layer is renamed instead.
    """
    taken: Counter[str] = Counter()  # path -> the number of calls that no longer use the layer
    for job in replace_jobs:
        taken[job.calls.path] += len(job.calls.numbers)
    for job in jobs:
        path, numbers = job.calls.path, job.calls.numbers
        name = job.argument.rpartition("/")[2]
        taken[path] += len(numbers)
        is_last = taken[path] == job.calls.total
        yield RenameLayer(path, name) if is_last else UnshareLayer(path, calls=numbers, name=name)


def group_by_channels(jobs: Sequence[Job], paths: Iterable[str]) -> tuple[dict[str, tuple[int, ...]], list[Job]]:
    """The channels to delete from each layer, and the jobs that must first give calls a separate layer.

    Calls that lose the same channels keep sharing a layer. If a shared layer has other calls, they get a new layer:

        conv is called at nodes 0, 1, 2; nodes 0 and 2 lose channel 5, node 1 loses nothing
        -> nodes 0 and 2 get the layer conv_delete_channels, which loses channel 5
    """
    groups: dict[tuple[str, tuple[int, ...]], Calls] = {}
    for job in jobs:
        if channels := tuple(sorted(set(job.argument))):
            calls = groups.get((job.calls.path, channels), replace(job.calls, numbers=()))
            groups[job.calls.path, channels] = replace(calls, numbers=(*calls.numbers, *job.calls.numbers))
    # A boolean mask stays a mask, because its length is checked when the layer is cut.
    masks = {(job.calls.path, *job.argument): job.argument for job in jobs if isinstance(job.argument, Masked)}
    channels_by_layer: dict[str, tuple[int, ...]] = {}
    unshare_jobs: list[Job] = []
    for (path, channels), calls in groups.items():
        name = path if calls.are_all else unused(f"{path}_delete_channels", [*paths, *channels_by_layer])
        unshare_jobs += [] if calls.are_all else [Job("unshare", calls, name)]
        channels_by_layer[name] = masks.get((path, *channels), channels)
    return channels_by_layer, unshare_jobs
