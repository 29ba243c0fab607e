"""Criteria that need data on the small models of the laws: shared layers, nested models, several inputs and outputs."""

import keras
import numpy as np
import pytest

from helpers.filling import random_inputs
from helpers.nested_models import NESTED, SHARED, STRUCTURES
from kerassurgery_fn import BadScores, capture, importance, measure_statistics, prune
from kerassurgery_fn.errors import BadValue, UnreachableBudget
from kerassurgery_fn.values.snapshot import same_weights

pytestmark = [pytest.mark.keras, pytest.mark.slow]
MODELS = {**SHARED, **STRUCTURES, **NESTED}


def like(outputs, seed=0):
    rng = np.random.default_rng(seed)
    return keras.tree.map_structure(lambda tensor: rng.normal(size=tensor.shape).astype("float32"), outputs)


def assert_split_does_not_matter(model, batch, by, **options):
    parts = [keras.tree.map_structure(lambda array, at=at: array[at], batch) for at in (slice(0, 3), slice(3, None))]
    whole, split = (measure_statistics(model, data, by, progress=False, **options) for data in ([batch], parts))
    for name, array in whole.arrays().items():
        tolerance = 1e-4 * max(1.0, float(np.abs(array).max(initial=0)))
        np.testing.assert_allclose(split.arrays()[name], array, rtol=1e-2, atol=tolerance, err_msg=f"{by} {name}")
    return whole


@pytest.mark.parametrize("name", MODELS)
def test_criteria_measure_models_of_every_structure(name):
    model = MODELS[name]()
    x = random_inputs(model, batch=8)
    outputs = model(x, training=False)
    loss = keras.tree.map_structure(lambda _: "mse", outputs)
    for by in ("variance", "taylor", "lfh", "snip", "thinet"):
        statistics = assert_split_does_not_matter(model, (x, like(outputs)), by, loss=loss)
        try:
            importance(model, by, statistics=statistics)
        except BadScores as error:
            assert "gives no score" in str(error)  # noqa: PT017 (models of which nothing can be cut)
    try:
        result = prune(model, channels=0.6, data=[(x,)], reconstruct=True, closest=True, progress=False)
    except (BadValue, UnreachableBudget) as error:
        assert "nothing would be cut" in str(error) or "cannot be reached" in str(error)  # noqa: PT017
    else:
        assert same_weights(capture(result.model).weights, result.plan(capture(model)).weights)
