"""The laws on random models and random edits of every class.

A run takes the seeds from `--random-seed` on, as many as `--random-models` says or as `--random-minutes` of CPU time
allow; the same seeds give the same models and edits. What is found is told with its seed, by which it can be run alone,
and with a model that is as small as leaving out steps makes it.
"""

import time
from collections import Counter
from dataclasses import replace
from itertools import count
from random import Random

import pytest

from helpers.random_known import is_known
from helpers.random_laws import applied, drawn, findings, report
from helpers.random_models import random_model
from helpers.random_subjects import Subject
from kerassurgery_fn import capture, edits
from kerassurgery_fn.rules.registry import RULES

pytestmark = pytest.mark.keras

SABOTAGED = 20  # a seed whose edits cut what Dense makes
SHARES = 8  # parts of a run, for as many workers


def seeds(config, share):
    """The seeds of a share of a run."""
    first, minutes = config.getoption("--random-seed"), config.getoption("--random-minutes")
    if not minutes:
        yield from range(first + share, first + config.getoption("--random-models"), SHARES)
        return
    end = time.process_time() + 60 * minutes / SHARES
    for seed in count(first + share, SHARES):
        if time.process_time() > end:
            return
        yield seed


@pytest.mark.parametrize("share", range(SHARES))
def test_random_edits_of_random_models(share, request, record_property):
    counts = Counter()
    found = [(seed, one) for seed in seeds(request.config, share) for one in findings(seed, counts)]
    record_property("counts", dict(counts))
    new = [(seed, one) for seed, one in found if not is_known(one)]
    told = [report(seed, one) for seed, one in new[:3]]
    assert not new, f"{len(new)} findings on {counts['models']} models, the first of them:\n\n" + "\n".join(told)


@pytest.mark.slow
def test_every_class_of_edits_succeeds_at_least_once():
    """The edits that the machine draws are not only refused; of the first models they are the same as in its run."""
    missing, seed = {*edits.EDITS, "AtOnce"}, 0
    while missing and seed < 100:
        model = random_model(seed)
        subject = Subject(seed, model, capture(model), None)
        tried = (edit for edit in drawn(Random(f"{seed} edits"), subject) if type(edit).__name__ in missing)
        done = [edit for edit in tried if applied(edit, subject.snapshot) is not None]
        missing -= {type(edit).__name__ for edit in done}
        seed += 1
    assert not missing


def test_a_wrong_rule_is_found(monkeypatch):
    """The machine itself sabotaged: what Dense makes would be cut in the reverse order."""
    rule = RULES["Dense"].channels

    def reversed_channels(layer, inputs, **kwargs):
        *axes, channels = rule(layer, inputs, **kwargs)
        return (*axes, channels[:, ::-1] if hasattr(channels, "ndim") else channels)

    monkeypatch.setitem(RULES, "Dense", replace(RULES["Dense"], channels=reversed_channels))
    found = [one for one in findings(SABOTAGED, Counter()) if one.law == "surgery law"]
    assert found
