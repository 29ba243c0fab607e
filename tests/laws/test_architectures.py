"""The laws on networks as people build them: exact cuts, channels that trade places, refusals, and other edits."""

import numpy as np
import pytest

from helpers import architectures_of_sequences  # noqa: F401 (lists its networks)
from helpers.architectures import NETWORKS
from helpers.laws import check_law, compute, prunable, random_inputs
from helpers.network_edits import check_deeper, check_fewer_bands, check_head, check_parts, choose, deepenable
from helpers.running import filled
from helpers.swaps import check_swaps
from kerassurgery_fn import DeepenLayer, DeleteChannels, Plan, analyse, capture, rebuild
from kerassurgery_fn.errors import SurgeryError

pytestmark = pytest.mark.keras

# The share of the channels that can be cut, where it is less than five in six: many outputs, layers as wide as there
# are steps, statistics of groups that are joined with others
LEAST = {
    "capsules": 0.75,
    "conditional generator": 0.75,
    "cross network": 0.8,
    "diffusion u net": 0.65,
    "encoder decoder with states": 0.65,
    "frames of a video": 0.7,
    "mlp mixer": 0.7,
    "two way encoder decoder with attention": 0.8,
}


@pytest.fixture(scope="module", params=NETWORKS)
def network(request):
    """The name of a network and its model, which all tests share: `filled` gives it the same weights each time."""
    return request.param, NETWORKS[request.param]()


def test_the_laws_on_a_network(network, record_property):
    """An exact cut, channels that trade places, and cuts that are refused."""
    name, model = network
    verdict = check_law(model)
    record_property("prunable", round(verdict.prunable, 3))
    record_property("deviation", verdict.deviation)
    assert verdict.prunable > LEAST.get(name, 5 / 6), verdict
    assert check_swaps(model).traded > 0.8
    check_refusals(filled(model))


def test_an_input_loses_a_channel(network):
    _, model = network
    check_fewer_bands(filled(model), random_inputs(model))


def test_parts_deeper_layers_and_other_classes(network):
    """The record is what Keras writes after a rebuild, and the model computes what it computed before."""
    _, model = network
    before, inputs = filled(model), random_inputs(model)
    truth, flow = compute(before, inputs), analyse(before)
    for path in choose(flow.graph.places, 1):
        check_parts(before, path, inputs, truth)
    if paths := choose(deepenable(before), 3):
        check_deeper(before, Plan(*map(DeepenLayer, paths)), inputs, truth)
    for path in choose({path for path, _ in flow.producers}, 20):
        check_head(before, path, inputs, truth)


def check_refusals(snapshot):
    """What is held is refused, and nothing changes."""
    before, flow = repr(snapshot.record), analyse(snapshot)
    assert 0 < prunable(flow) <= 1
    held = flow.solution.pinned()
    for (path, kind), producer in flow.producers.items():
        positions = np.flatnonzero(held[flow.solution.resolve(producer.axis)].all(axis=0))
        if len(positions):
            with pytest.raises(SurgeryError, match=r"cannot be deleted|are part of heads or groups"):
                DeleteChannels(f"{path}:{kind}", positions[:1])(snapshot)
    assert repr(snapshot.record) == before


@pytest.mark.parametrize("name", ["u net", "text transformer", "encoder decoder with states", "stacked cells"])
def test_a_rebuilt_model_has_the_same_config(name):
    model = NETWORKS[name]()
    assert rebuild(capture(model)).get_config() == model.get_config()  # lists and tuples are told apart
