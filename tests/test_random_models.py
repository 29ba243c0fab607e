"""The laws on random models and random edits of every class.

A run takes the seeds from `--random-seed` on, as many as `--random-models` says or as `--random-minutes` of CPU time
allow; the same seeds give the same models and edits. What is found is told with its seed, by which it can be run alone,
and with a model that is as small as leaving out steps makes it.
"""

import time
from collections import Counter
from itertools import count

import pytest
from random_known import is_known
from random_laws import findings, report

pytestmark = pytest.mark.keras

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
