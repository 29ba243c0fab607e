"""Pruning of live models: budgets on networks as people build them, the law of surgery, the model that comes back."""

import keras
import numpy as np
import pytest

from helpers import architectures_of_sequences  # noqa: F401 (lists its networks)
from helpers.architectures import NETWORKS
from helpers.laws import check_law
from helpers.pruned_models import assert_within_one_channel, channels_of, dead_of
from kerassurgery_fn import UnreachableBudget, analyse, capture, cost, groups, importance, plan_pruning, prune, rebuild
from kerassurgery_fn.analysis.layer_costs import cost_of

pytestmark = pytest.mark.keras

BUDGETS = [
    {"macs": 0.5}, {"macs": 0.8, "scope": "isomorphic"}, {"parameters": 0.5, "scope": "local"}, {"bytes": 0.3},
    {"channels": 0.6},
]  # fmt: skip
SMALL = ["u net of any size", "se res net", "inception with everything", "gan generator", "text transformer", "yolo"]


def check_budgets(snapshot, within=None):
    """Each budget is met to within one channel, or the closest plan is reported; costs are as planned.

    Args:
        within: how far below the target the result may be, relative to it.
    """
    flow, reached = analyse(snapshot), 0
    before = {"channels": channels_of(snapshot), **vars_of(cost(snapshot))}
    for options in BUDGETS:
        figure = next(name for name in before if name in options)
        target = int(options[figure] * before[figure])
        try:
            plan = plan_pruning(snapshot, importance(snapshot), **options)
        except UnreachableBudget:
            with pytest.warns(UserWarning, match="The plan is the closest one"):
                plan = plan_pruning(snapshot, importance(snapshot), **options, closest=True)
        else:
            reached += 1
            # Heads that are left with one member each make other groups, so that channels are counted before the cut.
            left = before["channels"] - np.count_nonzero(dead_of(plan, snapshot))
            after = {"channels": left, **vars_of(cost(plan(snapshot)))}[figure]
            assert after <= target
            if within is not None:
                assert after >= (1 - within) * target, options
            assert_within_one_channel(snapshot, plan, figure, target)
        assert cost(plan(snapshot)) == cost_of(snapshot, flow, dead_of(plan, snapshot))
    return reached


def vars_of(measured):
    return {figure: getattr(measured, figure) for figure in ("parameters", "macs", "bytes")}


@pytest.mark.filterwarnings("error::kerassurgery_fn.InexactCut")
@pytest.mark.parametrize("name", [n if n in SMALL else pytest.param(n, marks=pytest.mark.slow) for n in NETWORKS])
def test_budgets_on_networks(name):
    snapshot = capture(NETWORKS[name]())
    assert check_budgets(snapshot) >= 2


APPLICATIONS = {
    "ResNet50": (64, 64, 3), "MobileNetV2": (64, 64, 3), "DenseNet121": (64, 64, 3), "InceptionV3": (96, 96, 3),
    "Xception": (96, 96, 3), "EfficientNetB0": (64, 64, 3), "VGG16": (32, 32, 3), "MobileNetV3Small": (64, 64, 3),
    "ConvNeXtTiny": (64, 64, 3), "NASNetMobile": (64, 64, 3),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.filterwarnings("error::kerassurgery_fn.InexactCut")
@pytest.mark.parametrize("name", APPLICATIONS)
def test_budgets_on_applications(name):
    model = getattr(keras.applications, name)(weights=None, input_shape=APPLICATIONS[name], include_top=False)
    snapshot = capture(keras.Model(model.input, keras.layers.Dense(10)(keras.ops.mean(model.output, (1, 2)))))
    check_budgets(snapshot, within=0.01)
    smaller = plan_pruning(snapshot, importance(snapshot), **BUDGETS[0])(snapshot)
    live = rebuild(smaller)
    assert cost(capture(live)) == cost(smaller)
    assert live.count_params() == cost(smaller).parameters


@pytest.mark.parametrize(
    "options", [{"macs": 0.5}, {"macs": 0.5, "by": "fpgm", "scope": "local", "round_to": 2}], ids=str
)
@pytest.mark.parametrize("name", ["se res net", "vision transformer"])
def test_a_pruned_model_computes_what_the_masked_one_does(name, options):
    check_law(NETWORKS[name](), lambda snapshot: prune(snapshot, **options).model)


def test_heads_and_their_sizes_have_ratios_of_their_own():
    x = keras.Input((5, 8))
    y = keras.layers.MultiHeadAttention(4, key_dim=6, value_dim=6, name="attention")(x, x)
    model = keras.Model(x, keras.layers.Dense(3)(keras.layers.Dense(16, name="up")(y)))
    result = prune(model, ratios={"attention:num_heads": 0.5, "attention:key_dim": 1 / 3, "*:units": 0.25})
    attention = result.model.get_layer("attention")
    assert (attention.num_heads, attention.key_dim, attention.value_dim) == (2, 4, 6)
    assert result.model.get_layer("up").units == 12
    result = prune(model, macs=0.5, ignore=["attention:num_heads"], round_to=2)
    attention = result.model.get_layer("attention")
    assert (attention.num_heads, attention.key_dim % 2, attention.value_dim % 2) == (4, 0, 0)
    result = prune(model, ratios={"attention:num_heads": 0.25, "attention:key_dim": 0.5, "up": 0.3}, round_to=4)
    attention = result.model.get_layer("attention")
    assert (attention.num_heads, attention.key_dim, result.model.get_layer("up").units) == (3, 4, 12)
    assert prune(model, macs=0.9, ignore="attention").widths.keys() == {"up"}


def test_a_model_comes_back_compiled_and_the_first_one_stays():
    model = keras.Sequential([
        keras.Input((8, 8, 3)), keras.layers.Conv2D(16, 3, name="conv", activation="relu"), keras.layers.Flatten(),
        keras.layers.Dense(4),
    ])  # fmt: skip
    model.compile("adam", "mse")
    x, y = np.random.default_rng(0).random((8, 8, 8, 3)), np.zeros((8, 4))
    model.fit(x, y, verbose=0)
    before = [array.copy() for array in model.get_weights()]
    result = prune(model, macs=0.5)
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))
    assert result.model.get_layer("conv").filters == 8
    assert result.model.count_params() == result.after.parameters
    result.model.fit(x, y, verbose=0)


def test_silent_channels_go_first():
    model = keras.Sequential([
        keras.Input((8, 8, 3)), keras.layers.Conv2D(8, 3, name="conv", activation="relu"), keras.layers.Flatten(),
        keras.layers.Dense(4),
    ])  # fmt: skip
    kernel, bias = model.get_layer("conv").get_weights()
    bias[[1, 4, 6]] = -100
    model.get_layer("conv").set_weights([kernel, bias])
    result = prune(model, by="apoz", data=np.random.default_rng(0).random((8, 8, 8, 3)), channels=5)
    assert result.plan.edits[0].channels == {"conv": (1, 4, 6)}
    assert result.scores["conv"][[1, 4, 6]].tolist() == [0, 0, 0]


def test_half_of_mobile_net_in_multiples_of_eight():
    model = keras.applications.MobileNetV2(weights=None, input_shape=(32, 32, 3), classes=10, alpha=0.35)
    result = prune(model, macs=0.5, round_to=8)
    assert 0.9 * 0.5 * result.before.macs < result.after.macs <= 0.5 * result.before.macs
    widths = [layer.filters for layer in result.model.layers if type(layer).__name__ == "Conv2D"]
    assert all(width % 8 == 0 for width in widths)
    assert all(group.pinned or len(group) % 8 == 0 for group in groups(capture(result.model)))
