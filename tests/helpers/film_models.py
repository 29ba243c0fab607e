"""Models of images inside TimeDistributed, by name."""

import keras
from keras import layers as L

from helpers.small_models import dense_head


def frames(inner, shape=(3, 6, 6, 2), units=6):
    """A model of images on every frame of a film."""
    x = keras.Input(shape)
    y = L.TimeDistributed(inner, name="frames")(L.Dense(4)(x))
    return keras.Model(x, L.Dense(3)(L.LSTM(5)(y if len(y.shape) == 3 else L.TimeDistributed(L.Flatten())(y))))


def convnet(name="convnet", channels=4):
    x = keras.Input((6, 6, channels))
    y = L.ReLU()(L.BatchNormalization(name="norm")(L.Conv2D(6, 3, name="conv_1")(x)))
    y = L.Add()([L.Conv2D(7, 2, name="conv_2")(y), L.Conv2D(7, 4, name="conv_3")(x)])
    return keras.Model(x, L.GlobalAveragePooling2D()(y), name=name)


def tower():
    layers = [keras.Input((6, 6, 4)), L.Conv2D(6, 3, name="conv_1"), L.BatchNormalization(), L.Flatten()]
    return keras.Sequential(layers, name="tower")


def nested_in_frames():
    x = keras.Input((6, 6, 4))
    return keras.Model(x, L.Dense(8)(convnet("inner")(L.Conv2D(4, 3, padding="same")(x))))


def frames_of_films():
    x = keras.Input((2, 3, 6, 6, 2))
    y = L.TimeDistributed(L.TimeDistributed(convnet()))(L.Dense(4)(x))
    return keras.Model(x, dense_head(L.Dense(5)(y)))


def frames_inside_frames():
    x = keras.Input((3, 6, 6, 4))
    films = keras.Model(x, L.LSTM(6)(L.TimeDistributed(convnet(), name="frames")(x)), name="films")
    z = keras.Input((2, 3, 6, 6, 2))
    return keras.Model(z, L.Dense(3)(L.GRU(5)(L.TimeDistributed(films, name="films")(L.Dense(4)(z)))))


def frames_in_a_nested_model():
    x = keras.Input((3, 6, 6, 4))
    films = keras.Model(x, L.LSTM(6)(L.TimeDistributed(convnet(), name="frames")(x)), name="films")
    a, b = keras.Input((3, 6, 6, 2)), keras.Input((3, 6, 6, 2))
    return keras.Model([a, b], L.Dense(3)(L.Subtract()([films(L.Dense(4)(a)), films(L.Dense(4)(b))])))


def shared_frames(inner):
    a, b = keras.Input((3, 6, 6, 2)), keras.Input((2, 6, 6, 2))
    shared = L.TimeDistributed(inner, name="frames")
    return keras.Model(
        [a, b], L.Dense(3)(L.Concatenate()([dense_head(shared(L.Dense(4)(a))), dense_head(shared(L.Dense(4)(b)))]))
    )


FRAMES = {
    "functional": lambda: frames(convnet()),
    "sequential": lambda: frames(tower()),
    "any number of frames": lambda: frames(convnet(), (None, 6, 6, 2)),
    "a model in a model": lambda: frames(nested_in_frames()),
    "twice": frames_of_films,
    "frames inside frames": frames_inside_frames,
    "in a nested model": frames_in_a_nested_model,
    "shared": lambda: shared_frames(convnet()),
    "shared sequential": lambda: shared_frames(tower()),
    "in a sequential": lambda: keras.Sequential(
        [keras.Input((3, 6, 6, 4)), L.TimeDistributed(convnet(), name="frames"), L.GRU(5), L.Dense(3)]
    ),
}
