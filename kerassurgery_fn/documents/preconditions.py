"""Fingerprints of models, so that a plan that was made for one model raises an error on other models."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from typing import Any

import numpy as np
from toolz import valmap

from kerassurgery_fn.analysis.channel_flow import analyse
from kerassurgery_fn.arguments import as_flag, as_snapshot, takes
from kerassurgery_fn.channels import size
from kerassurgery_fn.edits.base import Edit
from kerassurgery_fn.edits.plan import as_edit
from kerassurgery_fn.errors import OtherModel
from kerassurgery_fn.graph import MEASURED, Record, is_model, leaves, read_graph
from kerassurgery_fn.values.frozen import FrozenDict, get_in, set_in
from kerassurgery_fn.values.mapped_arrays import release
from kerassurgery_fn.values.snapshot import Snapshot

# Config fields that no edit depends on: how weights are initialised and trained.
IGNORED = {"trainable", "seed", "name"}
IGNORED_SUFFIXES = ("_initializer", "_regularizer", "_constraint")
SHOWN = 6  # differences in an error message

LayerFingerprint = tuple[str, Mapping[str, int], str]  # class, number of channels of each kind, digest


@dataclass(frozen=True)
class Fingerprint:
    """The architecture of a model in short form: for each layer its class, the number of channels of each kind, and a
    digest of its config and inputs. `weights` has a digest of each layer's weights, if the weights must match, too.

    Models with the same architecture have the same fingerprint; model names, initializers and training do not matter.
    """

    layers: Mapping[str, LayerFingerprint] = field(repr=False)
    weights: Mapping[str, str] = field(default_factory=FrozenDict, repr=False)


@dataclass(frozen=True)
class MadeFor(Edit):
    """A plan that raises an error on any model except the model for which it was made. Its `plan` accepts every model.

    `measured` is the result of measurements by `capture`, for each layer path of that model. It is needed for a
    snapshot from a file, because a file has no code that could be run for measurements.
    """

    plan: Edit
    fingerprint: Fingerprint
    measured: Mapping[str, Mapping[str, Any]] = field(default_factory=FrozenDict)

    @takes(snapshot=as_snapshot)
    def __call__(self, snapshot: Snapshot) -> Snapshot:
        return self.plan(self.checked(snapshot))

    def checked(self, snapshot: Snapshot) -> Snapshot:
        """The snapshot, with the results of measurements in the records of its layers.

        Raises:
            OtherModel: the plan was made for another model.
        """
        snapshot = with_measured(snapshot, self.measured)
        check(self.fingerprint, snapshot)
        return snapshot


@takes(plan=as_edit, snapshot=as_snapshot, weights=as_flag)
def made_for(plan: Edit, snapshot: Snapshot, *, weights: bool = False) -> MadeFor:
    """A plan that only accepts models with the fingerprint of a snapshot. It includes the results of measurements on
    the snapshot.

    Args:
        plan: an edit.
        snapshot: the model of the plan.
        weights: whether the weights must be equal, too, and not only the architecture.
    """
    return MadeFor(plan, fingerprint(snapshot, weights=weights), FrozenDict(measured_in(snapshot)))


def measured_in(snapshot: Snapshot) -> dict[str, Mapping[str, Any]]:
    """Path of a layer -> the result of measurements on it, for the measured layers of a snapshot."""
    records = read_graph(snapshot).records
    return {path: record[MEASURED] for path, record in records.items() if MEASURED in record}


def with_measured(snapshot: Snapshot, measured: Mapping[str, Mapping[str, Any]]) -> Snapshot:
    """A snapshot with results of measurements for layers that were not measured themselves."""
    graph = read_graph(snapshot)
    record = snapshot.record
    for path, finding in measured.items():
        place = graph.places.get(path)
        if place is not None and MEASURED not in (layer_record := get_in(record, place)):
            record = set_in(record, place, {**layer_record, MEASURED: finding})
    return snapshot if record is snapshot.record else replace(snapshot, record=record)


@takes(snapshot=as_snapshot, weights=as_flag)
def fingerprint(snapshot: Snapshot, *, weights: bool = False) -> Fingerprint:
    """The fingerprint of a model, with digests of its weights if `weights`."""
    flow = analyse(snapshot)
    kinds: dict[str, dict[str, int]] = {path: {} for path in flow.graph.places}
    for producer in flow.producers.values():
        kinds[producer.path][producer.kind] = size(producer.axis) or 0
    layers = {path: _layer_fingerprint(get_in(snapshot.record, flow.graph.places[path]), kinds[path]) for path in kinds}
    digests = valmap(digest_of_arrays, snapshot.weights) if weights else {}
    return Fingerprint(FrozenDict(layers), FrozenDict(digests))


def check(expected: Fingerprint, snapshot: Snapshot) -> None:
    """Checks that a snapshot has a fingerprint.

    Raises:
        OtherModel: the snapshot has another fingerprint; the message lists the differences.
    """
    listed = list(differences(expected, fingerprint(snapshot, weights=bool(expected.weights))))
    if not listed:
        return
    more = f"; and {len(listed) - SHOWN} more" if len(listed) > SHOWN else ""
    raise OtherModel(
        f"the plan was made for another model than {snapshot.name!r}: {'; '.join(listed[:SHOWN])}{more}. To use it "
        "anyway, call its `plan`, or load it with check=False"
    )


def differences(expected: Fingerprint, actual: Fingerprint) -> Iterator[str]:
    """The differences between two fingerprints in words. Differences in channels come first, because they are often the
    cause of the other differences.

    >>> conv = lambda n: Fingerprint({"conv_3": ("Conv2D", {"filters": n}, "")})
    >>> list(differences(conv(128), conv(64)))
    ["layer 'conv_3' has 64 filters instead of 128"]
    """
    both = [path for path in expected.layers if path in actual.layers]
    for path in both:
        yield from _channel_differences(path, expected.layers[path], actual.layers[path])
    yield from (f"layer {path!r} is missing" for path in expected.layers if path not in actual.layers)
    yield from (f"layer {path!r} is additional" for path in actual.layers if path not in expected.layers)
    for path in both:
        *class_and_counts, digest = expected.layers[path]
        *actual_class_and_counts, actual_digest = actual.layers[path]
        if class_and_counts == actual_class_and_counts and digest != actual_digest:
            yield f"layer {path!r} ({class_and_counts[0]}) has another config or other inputs"
    for path, digest in expected.weights.items():
        if path in both and actual.weights.get(path) != digest:
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
        release(array)
    return state.hexdigest()


def _channel_differences(path: str, expected: LayerFingerprint, actual: LayerFingerprint) -> Iterator[str]:
    (expected_class, expected_counts, _), (actual_class, actual_counts, _) = expected, actual
    if expected_class != actual_class:
        yield f"layer {path!r} is {actual_class} instead of {expected_class}"
        return
    for kind in {**expected_counts, **actual_counts}:
        count, expected_count = actual_counts.get(kind), expected_counts.get(kind)
        if count != expected_count:
            yield f"layer {path!r} has {count or 'no'} {kind} instead of {expected_count or 'none'}"


def _layer_fingerprint(record: Record, kinds: Mapping[str, int]) -> LayerFingerprint:
    config = {
        key: value
        for key, value in record["config"].items()
        if key not in IGNORED and not key.endswith(IGNORED_SUFFIXES)
    }
    if is_model(record):
        config = {key: config.get(key) for key in ("input_layers", "output_layers")}
    calls = [[node["args"], node["kwargs"]] for node in record.get("inbound_nodes", ())]
    text = json.dumps([config, _with_histories(calls)], sort_keys=True)
    return record["class_name"], FrozenDict(kinds), blake2b(text.encode(), digest_size=4).hexdigest()


def _is_ignored(key: str) -> bool:
    return key in IGNORED or key.endswith(IGNORED_SUFFIXES)


def _with_histories(tree: Any) -> Any:
    """The arguments of calls with the Keras history in place of every tensor, without the derived shapes and dtypes."""
    if isinstance(tree, Mapping):
        if tree.get("class_name") == "__keras_tensor__":
            return leaves(tree["config"]["keras_history"])
        return valmap(_with_histories, tree)
    return [_with_histories(item) for item in tree] if isinstance(tree, (list, tuple)) else tree
