"""The work of each edit, and of each question to a model, grows in proportion to the layers.

Work is counted in calls of functions, which are the same in every run.
"""

from functools import partial

import pytest
from growth import on_fresh, subjects_of
from growth_models import CALLS, deep

from helpers.counting import calls

pytestmark = pytest.mark.slow

LAYERS = (32, 64, 128)  # whole dense blocks


def superlinear(kind, subjects_of):
    """The subjects whose work grows faster than the layers: twice as many layers are more than twice as much work."""

    def work(layers):
        snapshot = deep(kind, layers)
        return {name: calls(partial(on_fresh, edit, snapshot)) for name, edit in subjects_of(kind, snapshot).items()}

    work(8)  # what is imported once does not count
    small, middle, large = map(work, LAYERS)
    return [name for name in small if large[name] - middle[name] > 2.2 * (middle[name] - small[name])]


@pytest.mark.parametrize("kind", CALLS)
def test_the_work_of_edits_and_questions_is_linear_in_the_number_of_layers(kind):
    assert superlinear(kind, subjects_of) == []


def test_an_edit_that_looks_at_all_layers_for_each_layer_is_found():
    def compares_all(snapshot):
        return [a.get("name") == b.get("name") for a in layers(snapshot) for b in layers(snapshot)]

    def layers(snapshot):
        return snapshot.record["config"]["layers"]

    assert superlinear("chain", lambda kind, snapshot: {"compares all": compares_all}) == ["compares all"]
