"""For which model a plan was made, and whether this is it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

import numpy as np

from kerassurgery_fn.analysis.channel_flow import analyse
from kerassurgery_fn.arguments import as_flag, as_snapshot, takes
from kerassurgery_fn.channels import size
from kerassurgery_fn.edits.base import Edit
from kerassurgery_fn.edits.plan import as_edit
from kerassurgery_fn.errors import OtherModel
from kerassurgery_fn.graph import Record, is_model, leaves
from kerassurgery_fn.values.frozen import FrozenDict, get_in
from kerassurgery_fn.values.snapshot import Snapshot

# What a config says that no surgery depends on: how weights were drawn, and how they are trained.
PASSING = {"trainable", "seed", "name"}
PASSING_ENDS = ("_initializer", "_regularizer", "_constraint")
SHOWN = 6

LayerFacts = tuple[str, Mapping[str, int], str]


@dataclass(frozen=True)
class Fingerprint:
    """What a model is known by: for each layer its class, how many channels of each kind it makes, and a digest of its
    config and of what it is called on. `weights` has a digest of each layer's weights where they matter too.

    Two models with one architecture have one fingerprint, whatever their names, initializers and training.
    """

    layers: Mapping[str, LayerFacts] = field(repr=False)
    weights: Mapping[str, str] = field(default_factory=FrozenDict, repr=False)


@dataclass(frozen=True)
class MadeFor:
    """A plan that refuses other models than the one it was made for. Its `plan` can be called on any."""

    plan: Edit
    fingerprint: Fingerprint

    @takes(snapshot=as_snapshot)
    def __call__(self, snapshot: Snapshot) -> Snapshot:
        check(self.fingerprint, snapshot)
        return self.plan(snapshot)


@takes(plan=as_edit, snapshot=as_snapshot, weights=as_flag)
def made_for(plan: Edit, snapshot: Snapshot, *, weights: bool = False) -> MadeFor:
    """A plan with the fingerprint of the model that it was made for.

    Args:
        plan: an edit.
        snapshot: the model.
        weights: whether the model must have these very weights, not only this architecture.
    """
    return MadeFor(plan, fingerprint(snapshot, weights=weights))


@takes(snapshot=as_snapshot, weights=as_flag)
def fingerprint(snapshot: Snapshot, *, weights: bool = False) -> Fingerprint:
    """What a model is known by."""
    flow = analyse(snapshot)
    kinds: dict[str, dict[str, int]] = {path: {} for path in flow.graph.places}
    for producer in flow.producers.values():
        kinds[producer.path][producer.kind] = size(producer.axis) or 0
    layers = {path: _facts(get_in(snapshot.record, flow.graph.places[path]), kinds[path]) for path in kinds}
    digests = {path: digest_of_arrays(arrays) for path, arrays in snapshot.weights.items()} if weights else {}
    return Fingerprint(FrozenDict(layers), FrozenDict(digests))


def check(expected: Fingerprint, snapshot: Snapshot) -> None:
    """Does nothing if a snapshot has the fingerprint.

    Raises:
        OtherModel: it has another one; the message says what differs.
    """
    found = list(differences(expected, fingerprint(snapshot, weights=bool(expected.weights))))
    if not found:
        return
    more = f"; and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    raise OtherModel(
        f"made for another model than {snapshot.name!r}: {'; '.join(found[:SHOWN])}{more}. If it is to be used here "
        "all the same, call its `plan`, or load it with check=False"
    )


def differences(there: Fingerprint, here: Fingerprint) -> Iterator[str]:
    """What differs between two fingerprints, in words; channels first, for the rest often follows from them.

    >>> conv = lambda n: Fingerprint({"conv_3": ("Conv2D", {"filters": n}, "")})
    >>> list(differences(conv(128), conv(64)))
    ["layer 'conv_3' has 64 filters here, 128 there"]
    """
    both = [path for path in there.layers if path in here.layers]
    for path in both:
        yield from _counts(path, there.layers[path], here.layers[path])
    yield from (f"layer {path!r} is not here" for path in there.layers if path not in here.layers)
    yield from (f"layer {path!r} is only here" for path in here.layers if path not in there.layers)
    for path in both:
        (old, counted, was), (new, counts, now) = there.layers[path], here.layers[path]
        if old == new and counted == counts and was != now:
            yield f"layer {path!r} ({new}) is configured or connected otherwise"
    for path, digest in there.weights.items():
        if path in both and here.weights.get(path) != digest:
            yield f"layer {path!r} has other weights"


def digest_of_arrays(arrays: tuple[np.ndarray, ...]) -> str:
    """A short digest of arrays: dtypes, shapes and bytes.

    >>> digest_of_arrays((np.zeros(2),)) == digest_of_arrays((np.zeros(2),)) != digest_of_arrays((np.zeros(3),))
    True
    """
    state = blake2b(digest_size=8)
    for array in arrays:
        state.update(f"{array.dtype.name}{array.shape}".encode())
        state.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return state.hexdigest()


def _counts(path: str, there: LayerFacts, here: LayerFacts) -> Iterator[str]:
    (old, counted, _), (new, counts, _) = there, here
    if old != new:
        yield f"layer {path!r} is a {new} here, a {old} there"
        return
    for kind in {**counted, **counts}:
        if counted.get(kind) != counts.get(kind):
            yield f"layer {path!r} has {counts.get(kind, 'no')} {kind} here, {counted.get(kind, 'none')} there"


def _facts(record: Record, kinds: Mapping[str, int]) -> LayerFacts:
    config = {
        key: value for key, value in record["config"].items() if key not in PASSING and not key.endswith(PASSING_ENDS)
    }
    if is_model(record):
        config = {key: config.get(key) for key in ("input_layers", "output_layers")}
    calls = [[node["args"], node["kwargs"]] for node in record.get("inbound_nodes", ())]
    text = json.dumps([config, _wired(calls)], sort_keys=True)
    return record["class_name"], FrozenDict(kinds), blake2b(text.encode(), digest_size=4).hexdigest()


def _wired(tree: Any) -> Any:
    """Arguments of calls with the history of every tensor in place of what it is."""
    if isinstance(tree, Mapping):
        if tree.get("class_name") == "__keras_tensor__":
            return leaves(tree["config"]["keras_history"])
        return {key: _wired(item) for key, item in tree.items()}
    return [_wired(item) for item in tree] if isinstance(tree, (list, tuple)) else tree
