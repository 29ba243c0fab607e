"""The networks of the benchmarks, with random weights: those of keras.applications, and a transformer."""

from functools import cache

import keras
from keras import layers as L

NAMES = ("ResNet50", "VGG16", "InceptionV3", "DenseNet121", "EfficientNetB0", "transformer")


def side_of(name: str) -> int:
    """The height and width of the images."""
    return 299 if name == "InceptionV3" else 224


@cache
def network(name: str) -> keras.Model:
    """A network by its name in keras.applications, or the transformer. Each is built once."""
    if name == "transformer":
        return transformer()
    return getattr(keras.applications, name)(weights=None)


def encoder(x: keras.KerasTensor, width: int, heads: int) -> keras.KerasTensor:
    """A layer of a transformer of stock layers."""
    y = L.LayerNormalization()(x)
    x = L.Add()([x, L.MultiHeadAttention(heads, width // heads)(y, y)])
    y = L.Dense(4 * width, activation="gelu")(L.LayerNormalization()(x))
    return L.Add()([x, L.Dense(width)(y)])


def transformer(depth: int = 24, width: int = 384, heads: int = 6) -> keras.Model:
    """Patches of an image, encoders, and a dense layer on the mean over the patches."""
    image = keras.Input((224, 224, 3))
    x = L.Reshape((-1, width))(L.Conv2D(width, 16, 16)(image))
    for _ in range(depth):
        x = encoder(x, width, heads)
    x = L.GlobalAveragePooling1D()(L.LayerNormalization()(x))
    return keras.Model(image, L.Dense(1000)(x), name="transformer")
