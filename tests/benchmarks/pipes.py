"""Many edits in sequence."""

import random
from collections.abc import Iterator
from itertools import accumulate, pairwise

import numpy as np
from networks import network
from timing import Settings, in_turns, markdown, milliseconds, times_as_long
from toolz import pipe

from helpers.kept import fresh
from kerassurgery_fn import DeleteChannels, Plan, Snapshot, capture, groups

EDITS = 50
DELETIONS = 1000


def addresses_of(snapshot: Snapshot) -> list[str]:
    """One layer of each group of more than two channels that can be cut."""
    return [next(iter(group.made)) for group in groups(snapshot) if not group.pinned and len(group) > 2]


def deletions(snapshot: Snapshot, count: int) -> list[DeleteChannels]:
    """Deletions of one random channel each. No group loses more than the smallest one has."""
    rng, addresses = random.Random(0), addresses_of(snapshot)
    return [DeleteChannels(address, [0]) for address in rng.choices(addresses, k=count)]


def main(settings: Settings) -> Iterator[str]:
    """The table of this benchmark."""
    snapshot = capture(network("ResNet50"))
    many = deletions(snapshot, EDITS)
    arrays = changed_arrays([*accumulate(many, lambda state, edit: edit(state), initial=snapshot)])
    times = in_turns(
        {
            "one edit": lambda: many[0](fresh(snapshot)),
            f"a pipe of {EDITS} edits": lambda: pipe(fresh(snapshot), *many),
            "a copy of each array that they change": lambda: copied(arrays),
            "the same in Plan.at_once": lambda: Plan.at_once(*by_layer(many))(fresh(snapshot)),
        },
        settings,
    )
    one = times["one edit"]
    rows = [[what, milliseconds(found), times_as_long(found, one)] for what, found in times.items()]
    sequence = deletions(snapshot, DELETIONS)
    long = in_turns({"sequence": lambda: pipe(fresh(snapshot), *sequence)}, settings._replace(turns=1))["sequence"]
    rows.append([f"{DELETIONS:,} deletions in sequence", milliseconds(long), f"{long[0] / min(one):,.0f} x"])
    yield markdown(["ResNet50", "time", "against one edit"], rows)


def changed_arrays(states: list[Snapshot]) -> list[tuple[tuple[str, int], np.ndarray]]:
    """The arrays of each snapshot that the one before it does not have, with their places."""
    return [
        ((path, slot), array)
        for before, after in pairwise(states)
        for path, several in after.weights.items()
        for slot, (array, old) in enumerate(zip(several, before.weights[path], strict=True))
        if array is not old
    ]


def copied(arrays: list[tuple[tuple[str, int], np.ndarray]]) -> dict[tuple[str, int], np.ndarray]:
    """Copies of arrays one after the other. A copy is freed when its place has a newer one, as in a sequence of edits;
    copies that all stay would take longer, because the system has to clear new memory for each."""
    latest = {}
    for place, array in arrays:
        latest[place] = np.copy(array)
    return latest


def by_layer(edits: list[DeleteChannels]) -> list[DeleteChannels]:
    """Deletions in sequence as deletions that all refer to the first snapshot."""
    counts: dict[str, int] = {}
    for edit in edits:
        address = next(iter(edit.channels))
        counts[address] = counts.get(address, 0) + 1
    return [DeleteChannels(address, range(count)) for address, count in counts.items()]
