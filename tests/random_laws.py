"""The laws on random edits of random models: what breaks one is a finding."""

from __future__ import annotations

import json
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from random import Random
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf
from filling import random_inputs
from judging import judge
from laws import deviation, differences, frozen_copy, sabotage
from random_edits import Target, random_edit
from random_models import random_model, told

import kerassurgery_fn as k
from kerassurgery_fn.differences.files import decode_diff, encode_diff
from kerassurgery_fn.edits.channels import DeleteChannels, KeepChannels
from kerassurgery_fn.live.members import layers_of
from kerassurgery_fn.plan import AtOnce
from kerassurgery_fn.snapshot import Snapshot, same_arrays

WRONG = 1e-3  # the least deviation, relative to the spread of the output, that is a finding
VISIBLE = 1e-2  # that of a sabotaged model, or its comparison says nothing
SAME = {"ReorderChannels", "WidenChannels", "DeepenLayer", "FoldBatchNorm", "RenameLayer", "UnshareLayer", "SetTrainable"}
EDITS = 8  # tried on each model
REBUILT = 2  # of those that were done
MASKS = {"Embedding", "Masking", "ops.NotEqual"}


class Finding(NamedTuple):
    """A law that is broken: which one, by what edit, and in what words."""

    law: str
    edit: Any
    words: str

    def __str__(self) -> str:
        return f"{self.law}: {self.edit!r}\n    {self.words}"


class Broken(Exception):
    """A law that does not hold."""


def hold(law: str, holds: bool, words: Any = "") -> None:
    if not holds:
        raise Broken(law, str(words))


@contextmanager
def quiet() -> Iterator[None]:
    """Within it warnings to the user are none of ours; what numpy warns of is an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.filterwarnings("error", category=RuntimeWarning, module="kerassurgery_fn")
        yield


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


# --- the laws


def findings(seed: int, counts: Counter[str], without: Any = (), only: Any = None) -> list[Finding]:
    """What is wrong with random edits of the model of a seed, or with one edit that is given."""
    with quiet():
        try:
            model = random_model(seed, without)
        except (ValueError, tf.errors.OpError):  # of Keras, when the model is run: masks that do not fit, say
            counts["cannot be run"] += 1
            return []
        r = Random(f"{seed} edits")
        subject = attempt("capture", None, lambda: started(model, seed, counts))
        if isinstance(subject, Finding):
            return [subject]
        before = frozen_copy(subject.snapshot)
        found = [*checked(subject, r, only)]
        if frozen_copy(subject.snapshot) != before:
            found.append(Finding("purity", None, "the snapshot has changed"))
        return found


def started(model: keras.Model, seed: int, counts: Counter[str]) -> Subject:
    snapshot = k.capture(model)
    again = k.capture(k.rebuild(snapshot))
    hold("round trip", again == snapshot, different(snapshot, again))
    hold("cost", counted(model) == costs(snapshot), f"{counted(model)} != {costs(snapshot)}")
    str(k.groups(snapshot))
    counts["models"] += 1
    return Subject(seed, model, snapshot, random_inputs(model, seed, batch=5), counts)


def attempt(law: str, edit: Any, action: Callable[[], Any]) -> Any:
    """What an action gives, or a finding."""
    try:
        return action()
    except tf.errors.UnimplementedError:  # on this machine
        return None
    except Broken as broken:
        return Finding(broken.args[0], edit, broken.args[1])
    except Exception as error:
        at = error.__traceback__
        while at and at.tb_next:
            at = at.tb_next
        place = f"{at.tb_frame.f_code.co_filename.rpartition('/')[2]}:{at.tb_lineno}" if at else ""
        return Finding(law, edit, f"{type(error).__name__} at {place}: {error}"[:600])


def checked(subject: Subject, r: Random, only: Any) -> Iterator[Finding]:
    """Findings of edits of one snapshot, and of one pipe of several."""
    results = []
    for number, edit in enumerate([only] if only is not None else drawn(r, subject)):
        turn = None if only is not None else (subject.seed + number) % 3
        outcome = attempt("crash", edit, lambda: light(subject, edit, turn))
        if isinstance(outcome, Finding):
            yield outcome
        elif outcome is not None:
            results.append((edit, outcome))
    r.shuffle(results)
    for number, (edit, result) in enumerate(results[:REBUILT]):
        outcome = attempt("rebuild", edit, lambda: heavy(subject, edit, result, train_too=number == 0))
        if isinstance(outcome, Finding):
            yield outcome
    if only is None:
        yield from piped(subject, r)


def drawn(r: Random, subject: Subject) -> Iterator[Any]:
    target = Target(r, subject.snapshot)
    for _ in range(EDITS):
        edit = made(target, subject.counts)
        if edit is not None:
            yield edit


def made(target: Target, counts: Counter[str]) -> Any:
    """A random edit; None if it is refused where it is made."""
    try:
        return random_edit(target)
    except k.SurgeryError:
        counts["refused at once"] += 1
        return None


def piped(subject: Subject, r: Random) -> Iterator[Finding]:
    """Findings of a pipe of two to four edits, which is rebuilt at its end."""
    state, edits = subject.snapshot, []
    for _ in range(r.choice([4, 6])):
        edit = made(Target(r, state), subject.counts)
        if edit is None or isinstance(edit, k.ExtractModel):
            continue
        outcome = attempt("crash", k.Plan(*edits, edit), lambda: applied(edit, state))
        if isinstance(outcome, Finding):
            yield outcome
        elif outcome is not None:
            state, edits = outcome, [*edits, edit]
    if edits:
        outcome = attempt("rebuild", k.Plan(*edits), lambda: heavy(subject, k.Plan(*edits), state))
        if isinstance(outcome, Finding):
            yield outcome


def applied(edit: Any, snapshot: Snapshot) -> Snapshot | None:
    """What an edit makes; None if it is refused."""
    try:
        return edit(snapshot)
    except k.SurgeryError:
        return None


def light(subject: Subject, edit: Any, turn: int | None = None) -> Snapshot | None:
    """The laws that need no live model, of the longer ones one in turn. None if the edit is refused."""
    snapshot, name = subject.snapshot, type(edit).__name__
    again = k.decode(json.loads(json.dumps(k.encode(edit))))
    hold("codec", again == edit, again)
    result = applied(edit, snapshot)
    subject.counts[f"{name} {'refused' if result is None else 'done'}"] += 1
    twice = applied(again, snapshot)
    hold("applied twice", (result is None) == (twice is None) and result == twice, "the decoded edit does other things")
    if result is None:
        return None
    hold("read-only", not any(a.flags.writeable for arrays in result.weights.values() for a in arrays))
    if turn in (0, None):
        difference = k.diff(snapshot, result)
        hold("patch", k.patch(snapshot, decode_diff(json.loads(json.dumps(encode_diff(difference))))) == result)
    if turn in (1, None):
        str(k.explain(edit, snapshot))
    if turn in (2, None) and isinstance(edit, DeleteChannels | KeepChannels) and result != snapshot:
        hold("simplify", k.simplify(k.Plan(edit), snapshot)(snapshot) == result)
    return result


def heavy(subject: Subject, edit: Any, result: Snapshot, train_too: bool = True) -> None:
    """The laws on the rebuilt model."""
    subject.counts["rebuilt"] += 1
    model = k.rebuild(result)
    again = k.capture(model)
    hold("config", differences(result.record, again.record) == [], differences(result.record, again.record)[:4])
    lines = different(result, again)
    hold("round trip", not lines, lines)
    hold("cost", counted(model) == costs(again), f"{counted(model)} != {costs(again)}")
    judged(subject, edit, result, model)
    if train_too and model.compiled:
        trained(subject, model)


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
    if getattr(edit, "noise", 0) or getattr(edit, "allow_output_change", False):
        return False
    return type(edit).__name__ in SAME


def exact(subject: Subject, edit: Any, result: Snapshot) -> bool:
    """Whether a cut leaves the outputs' channels as they are and is exact by the rules, with all branches in place."""
    if any(one.allow_output_change for one in steps(edit)) or k.explain(edit, subject.snapshot).warnings:
        return False
    return len(result.weights) == len(subject.snapshot.weights)


def trained(subject: Subject, model: keras.Model) -> None:
    """One step of training, which a model does if the one that it was made of does; losses go by outputs' names."""
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


# --- telling


def smaller_case(seed: int, finding: Finding) -> tuple[tuple[int, ...], Finding]:
    """The steps that the model can do without for the edit to break the same law, and what is then said."""
    left_out: tuple[int, ...] = ()
    if finding.edit is None:
        return left_out, finding
    for step in range(1, 9):
        tried = (*left_out, step)
        same = [one for one in findings(seed, Counter(), tried, finding.edit) if one.law == finding.law]
        if same:
            left_out, finding = tried, same[0]
    return left_out, finding


def report(seed: int, finding: Finding) -> str:
    """A finding with all that is needed to see it again."""
    without, finding = smaller_case(seed, finding)
    model = told(random_model(seed, without))
    return (
        f"{finding}\nmodel of seed {seed} without steps {without}:\n{model}\n"
        f"alone: python -m pytest tests/test_random_models.py --random-models 1 --random-seed {seed}\n"
    )
