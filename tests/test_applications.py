"""The laws on whole networks: half of all their channels at once, chosen at random."""

import keras
import pytest
from laws import check_law, random_cut

pytestmark = pytest.mark.keras

# name -> the least image that it takes
FEW = {"ResNet50": 32, "MobileNetV2": 32}
MANY = {
    "VGG16": 32, "InceptionV3": 75, "DenseNet121": 32, "Xception": 71, "MobileNet": 32, "MobileNetV3Small": 32,
    "ResNet50V2": 32, "EfficientNetB0": 32, "EfficientNetV2B0": 32, "NASNetMobile": 32, "ConvNeXtTiny": 32,
    "InceptionResNetV2": 75,
}  # fmt: skip
INEXACT = {"ConvNeXtTiny"}  # layer normalisation looks across channels


def check(name, size):
    network = getattr(keras.applications, name)
    model = network(weights=None, input_shape=(size, size, 3), classes=10, classifier_activation=None)
    verdict = check_law(model, lambda snapshot: random_cut(snapshot, 0, share=0.5), inexact=name in INEXACT)
    assert verdict.prunable > 0.99  # all but the ten classes


@pytest.mark.parametrize("name, size", FEW.items(), ids=FEW)
def test_the_surgery_law(name, size):
    check(name, size)


@pytest.mark.slow
@pytest.mark.parametrize("name, size", MANY.items(), ids=MANY)
def test_the_surgery_law_on_many_networks(name, size):
    check(name, size)
