"""`reconstructed`: adds edits to a pruning plan, so that layers first replace the channels that will be deleted."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from kerassurgery_fn.analysis.channel_flow import Flow, analyse
from kerassurgery_fn.analysis.coupled_groups import Group, groups_of
from kerassurgery_fn.arguments import as_snapshot, shortened, takes
from kerassurgery_fn.edits.deletion import ChannelEdit
from kerassurgery_fn.edits.mixing import MixInputs
from kerassurgery_fn.edits.plan import AtOnce, Plan
from kerassurgery_fn.errors import BadValue, MissingData
from kerassurgery_fn.pruning.consumer_inputs import consumer_inputs
from kerassurgery_fn.pruning.group_weights import named_groups
from kerassurgery_fn.pruning.reconstruction_criteria import combinations, mean_products
from kerassurgery_fn.pruning.statistics_files import Statistics
from kerassurgery_fn.pruning.summed_arrays import SummedArrays, input_name
from kerassurgery_fn.values.snapshot import Snapshot

NEEDS = "products of inputs"


@takes(snapshot=as_snapshot)
def reconstructed(snapshot: Snapshot, plan: AtOnce | ChannelEdit, statistics: Statistics) -> Plan:
    """A plan of deletions after which the layers that read deleted channels compute them from the others.

    Each layer that sums over deleted channels reads, in place of a deleted channel, a combination of the remaining
    channels: the one that is closest to it on the data, by least squares. The plan does this by `MixInputs`, before the
    deletions. For dense layers and kernels of one position, the outputs of the layer are as close as possible to the
    old outputs. For larger kernels, the combination is the same at all positions. He et al. 2017, arXiv:1707.06168, and
    Luo et al. 2017,
    arXiv:1707.06342, reconstruct the weights of pruned layers for the same error.

    A deleted channel that is always zero, or is a combination of others, is replaced exactly.

    Args:
        snapshot: the model.
        plan: the deletions, from `plan_pruning`.
        statistics: products of inputs, from `measure_statistics(model, data, "least_squares")`.

    Returns:
        A plan: edits `MixInputs` of the layers that read deleted channels, then the plan.

    Raises:
        MissingData: the statistics are of another kind.
        BadValue: the plan has edits other than deletions of channels, or the statistics are of another model.
    """
    if not isinstance(statistics, SummedArrays) or statistics.kind != NEEDS:
        raise MissingData(
            f"a reconstruction needs {NEEDS}, not {shortened(statistics)}: call measure_statistics(model, data, "
            "'least_squares')"
        )
    flow = analyse(snapshot)
    free = {name: group for name, group in named_groups(groups_of(flow)).items() if not group.pinned}
    return Plan(*mixtures(flow, free, deleted_ids(snapshot, flow, plan), statistics), plan)


def deleted_ids(snapshot: Snapshot, flow: Flow, plan: AtOnce | ChannelEdit) -> np.ndarray:
    """The final ids that a plan deletes, a boolean mask.

    Raises:
        BadValue: the plan has other edits.
    """
    edits = plan.edits if isinstance(plan, AtOnce) else (plan,)
    deletions = [edit for edit in edits if isinstance(edit, ChannelEdit)]
    if others := [edit for edit in edits if not isinstance(edit, ChannelEdit)]:
        raise BadValue(f"plan: only deletions of channels can be reconstructed, not {shortened(others[0])}")
    return np.logical_or.reduce(
        [flow.solution.none_dead(), *(edit.ids_to_delete(snapshot, flow) for edit in deletions)]
    )


def mixtures(flow: Flow, named: Mapping[str, Group], dead: np.ndarray, statistics: SummedArrays) -> list[MixInputs]:
    """The edits by which layers read combinations of the channels that stay.

    Raises:
        BadValue: the statistics are of another model.
    """
    cut = {name: group for name, group in named.items() if dead[group.ids].any() and not dead[group.ids].all()}
    readers = {(reader.path, reader.group): reader for reader in consumer_inputs(flow, cut)}
    edits = []
    for (path, name), reader in readers.items():
        if (key := input_name(path, name)) not in statistics:
            continue
        products, removed = mean_products(statistics, key), dead[cut[name].ids]
        if len(products) != len(removed):
            raise BadValue(
                f"the statistics are of another model: they have {len(products)} channels of {name!r}, and the model "
                f"has {len(removed)}"
            )
        matrix = np.eye(cut[name].widths[reader.address])
        made = cut[name].made[reader.address][:, 0]
        matrix[np.ix_(made, made)] = combinations(products, removed)
        edits.append(MixInputs(path, reader.address, matrix))
    return edits
