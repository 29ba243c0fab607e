"""Checks that a cut to some widths is possible, and that the smaller model has the planned cost."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
from toolz import merge

from kerassurgery_fn.analysis.coupled_groups import Group
from kerassurgery_fn.channels import Axis, has_ids
from kerassurgery_fn.edits import DeleteChannels
from kerassurgery_fn.edits.steps.additions import refuse_misplaced_addition
from kerassurgery_fn.edits.steps.axis_places import Sources, least_left
from kerassurgery_fn.edits.steps.channel_deletion import ids_to_delete
from kerassurgery_fn.edits.steps.cutting import keeper, recounted
from kerassurgery_fn.errors import PartialGroup, PinnedChannels
from kerassurgery_fn.graph import refs
from kerassurgery_fn.pruning.group_weights import producers_by_address
from kerassurgery_fn.pruning.layer_work import layer_work
from kerassurgery_fn.pruning.pruning_problem import PrunableModel
from kerassurgery_fn.values.frozen import set_all
from kerassurgery_fn.values.snapshot import Snapshot

Removed = Mapping[int, np.ndarray]  # number of a group -> which of its channels go, sorted


def deletions(model: PrunableModel, removed: Removed) -> dict[int, DeleteChannels]:
    """Number of each group that is cut -> the edit that deletes its channels, by the first layer that creates them."""
    edits: dict[int, DeleteChannels] = {}
    for number, channels in removed.items():
        address, selected = selected_channels(model.groups[number], channels)
        edits[number] = DeleteChannels(address, np.flatnonzero(selected))
    return edits


def selected_channels(group: Group, channels: np.ndarray) -> tuple[str, np.ndarray]:
    """Channels of a group in the first layer that creates them: its address, and a boolean mask over the channels of
    that layer."""
    address, positions = next(iter(group.made.items()))
    selected = np.zeros(group.widths[address], bool)
    selected[positions[channels]] = True
    return address, selected


def refused_widths(model: PrunableModel, removed: Removed, widths: np.ndarray, with_costs: bool) -> dict[int, str]:
    """Groups that cannot be cut to these widths, because the cut raises an error or the cost differs from the plan.

    Args:
        model: the model.
        removed: the channels that go.
        widths: the widths that are left.
        with_costs: whether costs count. They do not where a plan has no budget.

    Returns:
        Number of the group -> the reason. Only groups that are cut.
    """
    dead = model.flow.solution.none_dead()
    for number, channels in removed.items():
        dead[model.groups[number].ids[channels]] = True
    sources = keeper(model.flow, dead)
    found = merge(
        inseparable(model, removed),
        misplaced_additions(model, sources),
        emptied_tensors(model, sources),
        other_costs(model, dead, widths) if with_costs else {},
        other_latencies(model, removed, sources, widths) if with_costs else {},
    )
    return {number: reason for number, reason in found.items() if number in removed}


def inseparable(model: PrunableModel, removed: Removed) -> dict[int, str]:
    """Groups of which no deletion removes just the chosen channels."""
    producers = producers_by_address(model.flow)
    found: dict[int, str] = {}
    for number, channels in removed.items():
        address, selected = selected_channels(model.groups[number], channels)
        try:
            ids = ids_to_delete(model.flow.solution, producers[address], selected)
        except PartialGroup:
            ids = np.zeros(0, int)
        if not np.array_equal(ids, model.groups[number].ids[channels]):  # both are sorted
            found[number] = "its channels cannot be deleted without others"
    return found


def misplaced_additions(model: PrunableModel, sources: Sources) -> dict[int, str]:
    """Groups on axes that Keras would add along another axis after the cut."""
    found: dict[int, str] = {}
    for addition in model.flow.additions:
        try:
            refuse_misplaced_addition(addition, sources)
        except PinnedChannels as error:
            found |= dict.fromkeys(groups_on(model, [*addition.x1, *addition.x2]), str(error))
    return found


def emptied_tensors(model: PrunableModel, sources: Sources) -> dict[int, str]:
    """Groups whose cut would leave a tensor without channels, so that a branch of the model would be removed."""
    found: dict[int, str] = {}
    if least_left(model.flow, sources):
        return found
    for ref, axes in model.flow.tensors.items():
        for axis in axes or ():
            if (kept := sources(axis)) is not None and not len(kept):
                reason = f"a tensor that {ref.path!r} computes would lose all its channels"
                found |= dict.fromkeys(groups_on(model, [axis]), reason)
    return found


def other_costs(model: PrunableModel, dead: np.ndarray, widths: np.ndarray) -> dict[int, str]:
    """Groups of layers that would cost something else than their polynomials say."""
    found: dict[int, str] = {}
    for path in model.costs.unlike(widths, dead):
        found |= dict.fromkeys(groups_at(model, path), f"the cost of {path!r} does not follow from its width")
    return found


def other_latencies(model: PrunableModel, removed: Removed, sources: Sources, widths: np.ndarray) -> dict[int, str]:
    """Groups of layers that would be other layers after the cut than those whose latency was planned; all groups that
    are cut, if it is due to none of the groups at such a layer.

    An axis of which one position is left can have no channels any more, and other axes are read in another way then.
    """
    if (table := model.costs.table) is None:
        return {}
    snapshot, flow = model.snapshot, model.flow
    arrays = {path: snapshot.weights[path] for path in flow.opaque if path in snapshot.weights}
    smaller = Snapshot(set_all(snapshot.record, recounted(snapshot, flow, sources)), arrays)
    found: dict[int, str] = {}
    for work, planned in zip(layer_work(smaller), model.costs.latencies(widths), strict=True):
        if work.signature not in table or table.nanoseconds(work.signature, work.work) != planned:
            reason = f"the latency of {work.path!r} does not follow from its width"
            here = [number for number in groups_at(model, work.path) if number in removed]
            found |= dict.fromkeys(here or removed, reason)
    return found


def groups_at(model: PrunableModel, path: str) -> list[int]:
    """The numbers of the groups with channels in the tensors and weights of a layer."""
    calls = [call for call in model.flow.trace.all_calls if call.path == path]
    tensors = [model.flow.tensors.get(ref) or () for call in calls for ref in refs([call.args, call.kwargs])]
    outputs = [axes or () for ref, axes in model.flow.tensors.items() if ref.path == path]
    weights = [weight.axes for weight in model.flow.weights.get(path, ())]
    return groups_on(model, [axis for tensor in (*tensors, *outputs, *weights) for axis in tensor])


def groups_on(model: PrunableModel, axes: Iterable[Axis]) -> list[int]:
    """The numbers of the groups that have channels on some axes."""
    maps = [model.owners[model.flow.solution.resolve(axis)].ravel() for axis in axes if has_ids(axis)]  # type: ignore[arg-type]
    numbers = np.unique(np.concatenate([np.zeros(0, int), *maps]))
    return numbers[numbers >= 0].tolist()
