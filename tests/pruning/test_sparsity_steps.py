"""Steps of sparsity training on arrays: against slow formulas, value by value. No Keras."""

import numpy as np
import pytest

from helpers.pruned_models import conv, dense, filled, residual
from helpers.records import layer, sequential
from kerassurgery_fn import Scores, analyse, groups, prune
from kerassurgery_fn.pruning.group_weights import group_weights, named_groups
from kerassurgery_fn.pruning.sparsity_steps import (
    channel_group,
    channel_norms,
    group_lasso,
    relative_decay,
    selected_decay,
    shrunk,
)


def groups_of(snapshot):
    """The groups that can be cut, with all of their members."""
    free = {name: group for name, group in named_groups(groups(snapshot)).items() if not group.pinned}
    weights = group_weights(snapshot, analyse(snapshot), free)
    return {each.name: channel_group(each.name, len(each), each.members) for each in weights}, weights


def arrays_of(snapshot):
    return {(path, slot): array for path, arrays in snapshot.weights.items() for slot, array in enumerate(arrays)}


def slow_norms(weights):
    """The norm of each channel: by the rows of all members."""
    return np.sqrt(sum((member.rows().astype(float) ** 2).sum(axis=1) for member in weights.members))


def slow_step(all_weights, arrays, factors):
    """Each value is multiplied by the factor of each channel that it belongs to, one after the other."""
    after = {key: array.astype(float) for key, array in arrays.items()}
    for weights in all_weights:
        for channel, factor in enumerate(factors(slow_norms(weights))):
            for member in weights.members:
                for position in member.positions[channel]:
                    np.moveaxis(after[member.path, member.slot], member.axis, 0)[position] *= factor
    return after


def flattened():
    """A channel has several positions in the kernel behind a Flatten."""
    return sequential(
        "flat", (None, 3, 3, 2), conv("a", 4, 1), layer("Flatten", "flatten"), dense("b", 5), dense("c", 2)
    )


def recurrent():
    """The recurrent kernel has the units on both of its axes, four times on one of them."""
    return sequential("recurrent", (None, 3, 2), layer("LSTM", "lstm", units=3), dense("top", 2))


MODELS = {"residual": residual(5, 4), "flattened": flattened(), "recurrent": recurrent()}
FACTORS = {
    "lasso": lambda norms: np.maximum(0, 1 - 2.5 / norms),
    "decay": lambda norms: 1 / (1 + 0.3 * 2 ** (4 * (norms.max() - norms) / (norms.max() - norms.min()))),
}
FUNCTIONS = {"lasso": lambda norms: group_lasso(norms, 2.5), "decay": lambda norms: relative_decay(norms, 0.3, 4)}


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("penalty", FACTORS)
def test_a_step_against_the_slow_formula(model, penalty):
    snapshot = filled(MODELS[model], dtype="float64")
    fast, slow = groups_of(snapshot)
    arrays = arrays_of(snapshot)
    found, zeros = shrunk([*fast.values()], arrays, lambda group, norms: FUNCTIONS[penalty](norms))
    expected = slow_step(slow, arrays, FACTORS[penalty])
    assert {*found} == {(member.path, member.slot) for each in slow for member in each.members}
    for key, array in found.items():
        np.testing.assert_allclose(array, expected[key], rtol=1e-9, err_msg=str(key))
        assert (np.abs(array) < np.abs(arrays[key])).all()
    assert zeros == sum((FACTORS[penalty](slow_norms(each)) == 0).sum() for each in slow)


@pytest.mark.parametrize("model", MODELS)
def test_norms_and_sizes(model):
    snapshot = filled(MODELS[model])
    fast, slow = groups_of(snapshot)
    for weights in slow:
        group = fast[weights.name]
        squares = {key: array**2 for key, array in arrays_of(snapshot).items()}
        np.testing.assert_allclose(channel_norms(group, squares), slow_norms(weights), rtol=1e-5)
        assert group.sizes.tolist() == [sum(member.rows().shape[1] for member in weights.members)] * len(weights)


def test_statistics_are_not_shrunk():
    fast, _ = groups_of(filled(residual(5, 4)))
    assert {key for group in fast.values() for key in (axis.key for axis in group.axes) if key[0] == "bn"} == {
        ("bn", 0), ("bn", 1)
    }  # fmt: skip


def test_group_lasso_is_the_proximal_step():
    """It minimises 1/2 ||w - v||^2 + amount * ||w||: no other scaling of v, nor any other w, is better."""
    rng = np.random.default_rng(0)
    for amount in (0.1, 1.0, 3.0):
        v = rng.normal(size=4)
        best = v * group_lasso(np.array([np.linalg.norm(v)]), amount)[0]

        def loss(w, v=v, amount=amount):
            return ((w - v) ** 2).sum() / 2 + amount * np.linalg.norm(w)

        assert all(loss(best) <= loss(best + step) for step in rng.normal(size=(200, 4)) * 0.1)


def test_selected_channels_decay_alone():
    assert selected_decay(np.ones(3), 1.0, np.array([True, False, True])).tolist() == [0.5, 1, 0.5]


def test_a_group_of_zeros_stays_zero():
    for factors in (group_lasso(np.zeros(2), 0.1), relative_decay(np.zeros(2), 0.1, 4)):
        assert np.isfinite(factors).all()


def test_ratios_of_scores_below_a_threshold_delete_just_these():
    snapshot = filled(residual(6, 5))
    scores = Scores({"stem": [1, 9, 9, 0, 9, 9], "a_1": [0, 0, 0, 0, 0], "b_1": [5, 5, 5, 5, 5]})
    assert scores.ratios(below=2) == {"stem": 2 / 6, "a_1": 4 / 5, "b_1": 0}
    plan = prune(snapshot, by=scores, ratios=scores.ratios(below=2)).plan
    deleted = {path: channels for edit in plan.edits for path, channels in edit.channels.items()}
    assert deleted == {"stem": (0, 3), "a_1": (0, 1, 2, 3)}
