"""The laws on all networks of keras.applications: half of all channels at once, chosen at random."""

import inspect
import sys
import time

import keras
import pytest

from helpers.large import check_large, check_the_rest, fill
from helpers.laws import check_law, random_cut
from helpers.needs import slow_network

pytestmark = pytest.mark.keras

NETWORKS = [name for name, function in vars(keras.applications).items() if inspect.isfunction(function)]
SMALLEST = {"Xception": 71, "InceptionV3": 75, "InceptionResNetV2": 75}  # sides of images; 32 for all others
AGILE = ["MobileNetV2"]


def build(name):
    size = SMALLEST.get(name, 32)
    network = getattr(keras.applications, name)
    return network(weights=None, input_shape=(size, size, 3), classes=10, classifier_activation=None)


@pytest.fixture
def report(capsys):
    """Writes a line of what was measured to the terminal."""
    start = time.perf_counter()

    def write(name, measured, traded=None):
        rest = f", {traded:.0%} traded places" if traded else ""
        line = (
            f"{name}: {measured.prunable:.2%} of the channels can be cut, {measured.gone:.0%} of the weights went, "
            f"deviation {measured.deviation:.1e}, sabotaged {measured.sabotaged:.1e}{rest}, "
            f"{time.perf_counter() - start:.0f} s"
        )
        with capsys.disabled():
            sys.stdout.write(f"\n{line}\n")

    return write


@pytest.mark.parametrize("name", [name if name in AGILE else slow_network(name) for name in NETWORKS])
def test_half_of_all_channels_go(name, report):
    model, traded = build(name), None
    fill(model)
    if name.startswith("ConvNeXt"):  # layer normalisation looks across channels
        traded = check_the_rest(model)
        assert traded > 0.99
    measured = check_large(model)
    report(name, measured, traded)
    assert measured.prunable > 0.99  # all but the ten classes


def test_all_of_the_laws_on_one_network():
    check_law(build("MobileNet"), lambda snapshot: random_cut(snapshot, 0, share=0.5))
