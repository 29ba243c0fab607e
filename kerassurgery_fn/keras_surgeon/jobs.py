"""Jobs on a live model, all of them told by the original, as edits of its snapshot."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from kerassurgery_fn.edits import DeleteChannels, DeleteLayer, InsertLayer, RenameLayer, ReplaceLayer, UnshareLayer
from kerassurgery_fn.edits.base import Edit
from kerassurgery_fn.edits.deletion import Masked
from kerassurgery_fn.edits.plan import AtOnce, Plan
from kerassurgery_fn.errors import UnknownJob
from kerassurgery_fn.graph import read_graph, unused
from kerassurgery_fn.keras_surgeon.layer_classes import at_hand
from kerassurgery_fn.keras_surgeon.nodes import Calls
from kerassurgery_fn.values.snapshot import Snapshot

if TYPE_CHECKING:
    import keras

JOBS = {"delete_layer": None, "insert_layer": "new_layer", "replace_layer": "new_layer", "delete_channels": "channels"}


@dataclass(frozen=True)
class Job:
    """Something to be done at some calls of a layer; `given` is what it takes: channels, or a new layer."""

    kind: str
    calls: Calls
    given: Any = None


def job_of(kind: str, calls: Calls, channels: Any = None, new_layer: Any = None) -> Job:
    """A job of a kind with what it takes.

    Raises:
        UnknownJob: there is no such kind of job, or it lacks what it takes.
        ChannelOutOfRange: channels are neither indices nor a mask.
    """
    if kind not in [*JOBS]:
        raise UnknownJob(f"{kind!r} is no job; there are {', '.join(JOBS)}")
    given = {"channels": channels, "new_layer": new_layer, None: ()}[JOBS[kind]]
    if given is None:
        raise UnknownJob(f"the job {kind!r} for layer {calls.path!r} takes {JOBS[kind]}=, which is not given")
    if JOBS[kind] == "channels":
        given = DeleteChannels(calls.path, given).channels[calls.path]
    return Job(kind, calls, given)


def operate(model: keras.Model, jobs: Sequence[Job]) -> keras.Model:
    """A new Functional model, not compiled, on which all jobs are done. The model itself is not changed.

    Warns where a cut is not exact, as the line that called the caller.
    """
    from kerassurgery_fn.keras_io.rebuilding import rebuild

    new = [job.given for job in jobs if is_layer(job.given)]
    with at_hand(layer for one in (model, *new) for layer in one._flatten_layers()):
        snapshot = bare(model)
        restructure, cut = edits_of(jobs, snapshot)
        restructured = restructure(snapshot)
        return rebuild(cut(restructured), safe_mode=False)


def with_a_layer_of_its_own(model: keras.Model, calls: Calls) -> tuple[keras.Model, Calls]:
    """A model that computes the same, in which some calls of a layer are those of another one, and the latter."""
    with at_hand(model._flatten_layers()):
        name = unused(f"{calls.path}_apart", read_graph(bare(model)).places)
    numbers = tuple(range(len(calls.numbers)))
    return operate(model, [Job("unshare", calls, name)]), Calls(name, numbers, len(numbers))


def bare(model: keras.Model) -> Snapshot:
    """The snapshot of a model as a Functional one, without what it was compiled with."""
    from kerassurgery_fn.keras_io.capturing import capture_graph

    return capture_graph(functional(model))


def functional(model: keras.Model) -> keras.Model:
    """A Sequential model as the Functional one that it is; any other model itself."""
    from keras import Model, Sequential

    from kerassurgery_fn.keras_io.model_classes import warn_of_plain_model

    if not isinstance(model, Sequential) or getattr(model, "_functional", None) is None:
        return model
    warn_of_plain_model(model, "Functional", "operations make a Functional model of a Sequential one")
    return Model(model.inputs[0], model.outputs[0], name=model.name)


def edits_of(jobs: Iterable[Job], snapshot: Snapshot) -> tuple[AtOnce, DeleteChannels]:
    """The edits that do jobs: those of layers, done in one traversal, and after them that of channels, one cut.

    So what has been put in is cut along, and what has been taken out is not in the way.
    """
    by_kind: dict[str, list[Job]] = defaultdict(list)
    for job in jobs:
        by_kind[job.kind].append(job)
    dying, apart = split_by_channels(by_kind["delete_channels"], read_graph(snapshot).places)
    edits = [edit(job) for kind, edit in EDITS_OF.items() for job in by_kind[kind]]
    edits += unshared([*by_kind["unshare"], *apart], by_kind["replace_layer"])
    return Plan.at_once(*edits), DeleteChannels(dying, allow_output_change=True)


EDITS_OF: dict[str, Callable[[Job], Edit]] = {
    "insert_layer": lambda job: InsertLayer(as_new(job.given), before=job.calls.path, calls=job.calls.chosen),
    "delete_layer": lambda job: DeleteLayer(job.calls.path, calls=job.calls.chosen, allow_shape_change=True),
    "replace_layer": lambda job: ReplaceLayer(job.calls.path, as_new(job.given), calls=job.calls.chosen),
}


def as_new(layer: Any) -> Any:
    """A new layer as edits take it: a model as a snapshot, anything else itself."""
    from kerassurgery_fn.keras_io.capturing import capture_graph

    return capture_graph(layer) if is_layer(layer) and hasattr(layer, "fit") else layer


def is_layer(given: Any) -> bool:
    """Whether something is a layer or a model of Keras."""
    return hasattr(given, "_flatten_layers") and not isinstance(given, type)


def unshared(jobs: Iterable[Job], replaced: Iterable[Job]) -> Iterator[Edit]:
    """The edits that give calls a layer of their own; the last calls that a layer has left take it along."""
    taken: Counter[str] = Counter()
    for job in replaced:
        taken[job.calls.path] += len(job.calls.numbers)
    for job in jobs:
        path, numbers = job.calls.path, job.calls.numbers
        taken[path] += len(numbers)
        if taken[path] == job.calls.total:
            yield RenameLayer(path, job.given.rpartition("/")[2])
        else:
            yield UnshareLayer(path, calls=numbers, name=job.given.rpartition("/")[2])


def split_by_channels(jobs: Sequence[Job], paths: Iterable[str]) -> tuple[dict[str, tuple[int, ...]], list[Job]]:
    """The channels that go from each layer, and the jobs that give calls a layer of their own before that.

    Calls that lose the same channels go on sharing a layer. If they are not all that the layer has, it is a new one.
    """
    groups: dict[tuple[str, tuple[int, ...]], Calls] = {}
    for job in jobs:
        if channels := tuple(sorted(set(job.given))):
            known = groups.get((job.calls.path, channels), replace(job.calls, numbers=()))
            groups[job.calls.path, channels] = replace(known, numbers=(*known.numbers, *job.calls.numbers))
    masks = {(job.calls.path, *job.given): job.given for job in jobs if isinstance(job.given, Masked)}
    dying: dict[str, tuple[int, ...]] = {}
    apart: list[Job] = []
    for (path, channels), calls in groups.items():
        name = path if calls.are_all else unused(f"{path}_delete_channels", [*paths, *dying])
        apart += [] if calls.are_all else [Job("unshare", calls, name)]
        dying[name] = masks.get((path, *channels), channels)
    return dying, apart
