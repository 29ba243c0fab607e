"""The laws on random edits of random models: what breaks one is a finding."""

from __future__ import annotations

import json
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from random import Random
from typing import Any, NamedTuple

import keras
import tensorflow as tf

import kerassurgery_fn as k
from helpers.filling import random_inputs
from helpers.kept import fresh, results
from helpers.laws import differences, frozen_copy
from helpers.random_edits import Target, random_edit
from helpers.random_models import random_model, told
from helpers.random_subjects import Broken, Subject, costs, counted, different, hold, judged, trained
from kerassurgery_fn.differences.diff_files import decode_diff, encode_diff
from kerassurgery_fn.edits.deletion import DeleteChannels, KeepChannels
from kerassurgery_fn.values.snapshot import Snapshot

EDITS = 6  # tried on each model


class Finding(NamedTuple):
    """A law that is broken: which one, by what edit, and in what words."""

    law: str
    edit: Any
    words: str

    def __str__(self) -> str:
        return f"{self.law}: {self.edit!r}\n    {self.words}"


@contextmanager
def quiet() -> Iterator[None]:
    """Within it warnings to the user are none of ours; what numpy warns of is an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.filterwarnings("error", category=RuntimeWarning, module="kerassurgery_fn")
        yield


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
        subject = attempt("capture", None, started, model, seed, counts)
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


def attempt(law: str, edit: Any, action: Callable[..., Any], *args: Any) -> Any:
    """What an action gives, or a finding."""
    try:
        return action(*args)
    except (tf.errors.UnimplementedError, tf.errors.NotFoundError):  # on this machine
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
        outcome = attempt("crash", edit, light, subject, edit, turn)
        if isinstance(outcome, Finding):
            yield outcome
        elif outcome is not None:
            results.append((edit, outcome))
    r.shuffle(results)
    if r.random() < 0.6:  # a cut can be judged more often than other edits
        results.sort(key=lambda pair: not isinstance(pair[0], DeleteChannels | KeepChannels))
    for edit, result in results[:1]:  # a rebuilt model costs as much as all that needs none
        outcome = attempt("rebuild", edit, heavy, subject, edit, result, only is not None or subject.seed % 4 == 0)
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
        outcome = attempt("crash", k.Plan(*edits, edit), in_sequence, edit, state)
        if isinstance(outcome, Finding):
            yield outcome
        elif outcome is not None:
            state, edits = outcome, [*edits, edit]
    if edits:
        outcome = attempt("rebuild", k.Plan(*edits), heavy, subject, k.Plan(*edits), state, subject.seed % 2 == 1)
        if isinstance(outcome, Finding):
            yield outcome


def applied(edit: Any, snapshot: Snapshot) -> Snapshot | None:
    """What an edit makes; None if it is refused."""
    try:
        return edit(snapshot)
    except k.SurgeryError:
        return None


def in_sequence(edit: Any, state: Snapshot) -> Snapshot | None:
    """The result of an edit on a snapshot that other edits have made; None if the edit is refused."""
    result = applied(edit, state)
    hold("handed on", result == applied(edit, fresh(state)), "the edit does other things after a new analysis")
    return result


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
    hold("kept results", results(result) == results(fresh(result)))
    hold("read-only", not any(a.flags.writeable for arrays in result.weights.values() for a in arrays))
    if turn in (0, None):
        difference = k.diff(snapshot, result)
        hold("patch", k.patch(snapshot, decode_diff(json.loads(json.dumps(encode_diff(difference))))) == result)
    if turn in (1, None):
        str(k.explain(edit, snapshot))
    if turn in (2, None) and isinstance(edit, DeleteChannels | KeepChannels) and result != snapshot:
        hold("simplify", k.simplify(k.Plan(edit), snapshot)(snapshot) == result)
    return result


def heavy(subject: Subject, edit: Any, result: Snapshot, train_too: bool) -> None:
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
        f"alone: python -m pytest tests/laws/test_random_models.py --random-models 1 --random-seed {seed}\n"
    )
