"""What random models and edits of them compute, cost and learn, and what they should."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import keras
import numpy as np

import kerassurgery_fn as k
from helpers.judging import judge
from helpers.laws import deviation, differences, sabotage
from helpers.random_models import apply_constraints
from kerassurgery_fn.edits.deletion import DeleteChannels, KeepChannels
from kerassurgery_fn.edits.plan import AtOnce
from kerassurgery_fn.keras_io.sublayers import layers_of
from kerassurgery_fn.values.snapshot import Snapshot, same_arrays

WRONG = 1e-3  # the least deviation, relative to the spread of the output, that is a finding
VISIBLE = 1e-2  # that of a sabotaged model, or its comparison says nothing
# Edits that leave alone what a model computes.
SAME = {
    "ReorderChannels", "RenameModel", "WidenChannels", "DeepenLayer", "FoldBatchNorm", "RenameLayer", "UnshareLayer",
    "SetTrainable",
}  # fmt: skip


class Broken(Exception):
    """A law that does not hold."""


def hold(law: str, holds: bool, words: Any = "") -> None:
    if not holds:
        raise Broken(law, str(words))


@dataclass
class Subject:
    """A live model, its snapshot, and what it computes of random inputs."""

    seed: int
    model: keras.Model
    snapshot: Snapshot
    inputs: Any
    counts: Counter[str] = field(default_factory=Counter)

    @cached_property
    def truth(self) -> list[np.ndarray] | None:
        """None where the model itself cannot be run on this machine, or computes what cannot be compared."""
        if "float16" in json.dumps(self.snapshot.record):
            return None
        try:
            results = computed(self.model, self.inputs)
        except Exception:  # of TensorFlow: an operation that the machine cannot do
            return None
        return results if all(np.isfinite(r).all() and r.std() > 1e-6 for r in results) else None

    @cached_property
    def trains(self) -> bool:
        """Whether the model itself can be trained as it was compiled."""
        try:
            train(k.rebuild(self.snapshot), self.inputs)
        except Exception:
            return False
        return True

    def with_weights(self, snapshot: Snapshot) -> list[np.ndarray]:
        """What the live model computes with other weights; it has its own again afterwards."""
        if snapshot.record != self.snapshot.record:
            return computed(k.rebuild(snapshot), self.inputs)
        put(self.model, snapshot)
        try:
            return computed(self.model, self.inputs)
        finally:
            put(self.model, self.snapshot)


def computed(model: keras.Model, inputs: Any) -> list[np.ndarray]:
    outputs = keras.tree.flatten(model(inputs, training=False))
    return [keras.ops.convert_to_numpy(keras.ops.cast(one, "float32")) for one in outputs]


def put(model: keras.Model, snapshot: Snapshot) -> None:
    for path, layer, _ in layers_of(model, snapshot.record, ""):
        for variable, array in zip(layer.weights, snapshot.weights.get(path, ()), strict=True):
            variable.assign(array)


def judged(subject: Subject, edit: Any, result: Snapshot, model: keras.Model) -> None:
    """What the model computes, where the edit says what that is."""
    expected, other = verdict(subject, edit, result)
    if expected is None or not all(np.isfinite(one).all() and one.std() > 1e-6 for one in expected):
        return
    results = computed(model, subject.inputs)
    if other is not None and deviation(computed_with(model, result, other, subject.inputs), expected) < VISIBLE:
        return
    subject.counts[f"judged {type(edit).__name__}"] += 1
    far = deviation(results, expected)
    hold("surgery law" if other is not None else "same function", far < WRONG, f"deviation {far:.2g}")
    if other is None and apply_constraints(model):
        far = deviation(computed(model, subject.inputs), expected)
        hold("constraints", far < WRONG, f"deviation {far:.2g} after a step of training that changes nothing else")


def computed_with(model: keras.Model, own: Snapshot, other: Snapshot, inputs: Any) -> list[np.ndarray]:
    put(model, other)
    try:
        return computed(model, inputs)
    finally:
        put(model, own)


def verdict(subject: Subject, edit: Any, result: Snapshot) -> tuple[list[np.ndarray] | None, Snapshot | None]:
    """What the result should compute, None if that is not known; and a sabotaged result, if the judge has said it."""
    edits = steps(edit)
    if subject.truth is None:
        return None, None
    if all(keeps_function(one) for one in edits):
        return subject.truth, None
    if all(isinstance(one, DeleteChannels | KeepChannels) for one in edits) and exact(subject, edit, result):
        smaller = sabotage(result)
        return subject.with_weights(judge(subject.snapshot, result)), smaller
    return None, None


def steps(edit: Any) -> list[Any]:
    return [step for one in edit.edits for step in steps(one)] if isinstance(edit, k.Plan | AtOnce) else [edit]


def keeps_function(edit: Any) -> bool:
    if getattr(edit, "noise", 0) or changes_ends(edit):
        return False
    return type(edit).__name__ in SAME


def changes_ends(edit: Any) -> bool:
    """Whether an edit may change inputs or outputs of the model."""
    return getattr(edit, "allow_output_change", False) or getattr(edit, "allow_input_change", False)


def exact(subject: Subject, edit: Any, result: Snapshot) -> bool:
    """Whether a cut leaves the outputs' channels as they are and is exact by the rules, with all branches in place."""
    if any(map(changes_ends, steps(edit))) or k.explain(edit, subject.snapshot).warnings:
        return False
    return len(result.weights) == len(subject.snapshot.weights)


def trained(subject: Subject, model: keras.Model) -> None:
    """One step of training, which a model does if the one that it was made of does; losses go by outputs' names.

    A model whose inputs have other shapes or dtypes than they had is not trained.
    """
    if [(x.shape, x.dtype) for x in model.inputs] != [(x.shape, x.dtype) for x in subject.model.inputs]:
        return
    try:
        train(model, subject.inputs)
        subject.counts["trained"] += 1
    except Exception:
        if subject.trains:
            raise


def train(model: keras.Model, inputs: Any) -> None:
    outputs = model(inputs, training=False)
    model.train_on_batch(inputs, keras.tree.map_structure(lambda y: np.zeros(y.shape, "float32"), outputs))


# --- what there is to compare


def counted(model: keras.Model) -> tuple[int, int, int]:
    """The parameters, trainable ones and bytes of a live model, without the state of generators of random numbers."""

    def numbers(variables: Any) -> int:
        return sum(int(np.prod(v.shape)) for v in variables)

    weights = {id(v): v for v in model.weights}.values()
    size = sum(int(np.prod(v.shape)) * np.dtype(v.numpy().dtype).itemsize for v in weights)
    return numbers(weights), numbers({id(v): v for v in model.trainable_weights}.values()), size


def costs(snapshot: Snapshot) -> tuple[int, int, int]:
    cost = k.cost(snapshot)
    str(cost)
    return cost.parameters, cost.trainable, cost.bytes


def different(ours: Snapshot, theirs: Snapshot) -> list[str]:
    """Where a snapshot and what has been captured of the model made of it differ.

    Weights that are yet to be drawn, and the optimizer's state of weights that have none yet, may be anything.
    """
    lines = differences(ours.record, theirs.record)[:4]
    if odd := ours.weights.keys() ^ theirs.weights.keys():
        lines.append(f"weights of {sorted(odd)}")
    for path, arrays in ours.weights.items():
        if arrays and not same_arrays(arrays, theirs.weights.get(path, ())):
            shapes = [[(a.dtype.name, a.shape) for a in s.weights.get(path, ())] for s in (ours, theirs)]
            lines.append(f"weights of {path}: {shapes[0]} != {shapes[1]}")
    if ours.training is not None:
        mine, other = ours.training.by_owner(), theirs.training.by_owner() if theirs.training else {}
        lines += [f"optimizer state of {key}" for key in mine if not same_arrays(mine[key], other.get(key, ()))]
    return lines[:6]
