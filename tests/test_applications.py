"""The laws on whole networks: half of all their channels at once, chosen at random."""

import keras
import pytest
from laws import check_law, random_cut

pytestmark = pytest.mark.keras

# name -> the least image that it takes; the second part takes longer than some 20 seconds
SIZES = {"ResNet50": 32, "MobileNetV2": 32}
LARGE = {"VGG16": 32, "InceptionV3": 75, "DenseNet121": 32, "Xception": 71}


def check(name, size):
    network = getattr(keras.applications, name)
    model = network(weights=None, input_shape=(size, size, 3), classes=10, classifier_activation=None)
    verdict = check_law(model, lambda snapshot: random_cut(snapshot, 0, share=0.5))
    assert verdict.prunable > 0.99  # all but the ten classes


@pytest.mark.parametrize("name, size", SIZES.items(), ids=SIZES)
def test_the_surgery_law(name, size):
    check(name, size)


@pytest.mark.slow
@pytest.mark.parametrize("name, size", LARGE.items(), ids=LARGE)
def test_the_surgery_law_on_large_networks(name, size):
    check(name, size)
