"""Small models whose branches merge, and recurrent layers with states, by name."""

import keras
from keras import layers as L

from helpers.small_models import dense_head


def two_branches(merge, filters=(6, 6)):
    x = keras.Input((7, 7, 3))
    branches = [L.Conv2D(n, 3, padding="same", activation="relu")(x) for n in filters]
    return keras.Model(x, dense_head(L.Conv2D(5, 3)(merge(branches))))


def residual():
    x = keras.Input((7, 7, 3))
    y = L.Conv2D(6, 3)(x)
    for _ in range(2):
        z = L.ReLU()(L.BatchNormalization()(L.Conv2D(8, 3, padding="same", use_bias=False)(y)))
        y = L.Add()([y, L.Conv2D(6, 1)(z)])
    return keras.Model(x, dense_head(y))


def dense_block():
    x = keras.Input((7, 7, 3))
    y = L.Conv2D(6, 3)(x)
    for _ in range(3):
        y = L.Concatenate()([y, L.Conv2D(4, 3, padding="same")(L.ReLU()(L.BatchNormalization()(y)))])
    return keras.Model(x, dense_head(y))


def squeeze_and_excite(keepdims):
    x = keras.Input((7, 7, 3))
    y = L.Conv2D(8, 3)(x)
    z = L.GlobalAveragePooling2D(keepdims=keepdims)(y)
    z = z if keepdims else L.Reshape((1, 1, 8))(z)
    gate = L.Conv2D(8, 1, activation="sigmoid")(L.Conv2D(4, 1, activation="relu")(z))
    return keras.Model(x, dense_head(L.Conv2D(5, 1)(L.Multiply()([y, gate]))))


def spatial_gate():
    x = keras.Input((7, 7, 3))
    y = L.Conv2D(8, 3)(x)
    return keras.Model(x, dense_head(L.Multiply()([y, L.Conv2D(1, 1, activation="sigmoid")(y)])))


def concatenate_along_space():
    x = keras.Input((5, 4, 3))
    y = L.Concatenate(axis=1)([L.Conv2D(6, 2)(x), L.Conv2D(6, (3, 2))(x)])
    return keras.Model(x, dense_head(L.Conv2D(5, 2)(y)))


def concatenate_with_inputs():
    x = keras.Input((6,))
    return keras.Model(x, L.Dense(4)(L.Concatenate()([x, L.Dense(7)(x), x])))


def concatenate_then_add():
    x = keras.Input((6,))
    y = L.Concatenate()([L.Dense(4)(x), L.Dense(5)(x)])
    return keras.Model(x, L.Dense(4)(L.Add()([y, L.Dense(9, activation="relu")(x)])))


def add_of_concatenations():
    x = keras.Input((6,))
    a, b = (L.Concatenate()([L.Dense(m)(x), L.Dense(n)(x)]) for m, n in ((4, 5), (3, 6)))
    return keras.Model(x, L.Dense(4)(L.Subtract()([a, b])))


def add_with_broadcast():
    x = keras.Input((5, 6))
    return keras.Model(
        x, dense_head(L.Dense(5)(L.Add()([L.Dense(8)(x), L.Dense(8)(L.GlobalMaxPooling1D(keepdims=True)(x))])))
    )


def add_of_different_ranks():
    x = keras.Input((5, 6))
    return keras.Model(x, dense_head(L.Dense(5)(L.Add()([L.Dense(8)(x), L.GlobalMaxPooling1D()(L.Dense(8)(x))]))))


def dot(axes, normalize=False):
    x = keras.Input((5, 6))
    a, b = L.Dense(8)(x), L.Dense(8)(x)
    return keras.Model(x, dense_head(L.Dot(axes=axes, normalize=normalize)([a, b])))


def dot_of_vectors():
    x = keras.Input((6,))
    return keras.Model(x, L.Dense(3)(L.Dot(axes=-1)([L.Dense(8)(x), L.Dense(8)(x)])))


def flat_and_grid():
    """A flattened image meets a Dense: its units are positions of the image, and go with their channel."""
    x = keras.Input((3, 4, 2))
    return keras.Model(x, L.Dense(4)(L.Add()([L.Flatten()(L.Conv2D(6, 1)(x)), L.Dense(72)(L.Flatten()(x))])))


MERGES = {
    "add": lambda: two_branches(L.Add()),
    "subtract": lambda: two_branches(L.Subtract()),
    "multiply": lambda: two_branches(L.Multiply()),
    "average": lambda: two_branches(L.Average()),
    "maximum": lambda: two_branches(L.Maximum()),
    "minimum": lambda: two_branches(L.Minimum()),
    "concatenate": lambda: two_branches(L.Concatenate(), (4, 7)),
    "concatenate along space": concatenate_along_space,
    "concatenate with inputs": concatenate_with_inputs,
    "concatenate then add": concatenate_then_add,
    "add of concatenations": add_of_concatenations,
    "add with broadcast": add_with_broadcast,
    "add of different ranks": add_of_different_ranks,
    "residual": residual,
    "dense block": dense_block,
    "squeeze and excite": lambda: squeeze_and_excite(keepdims=True),
    "squeeze and excite by reshape": lambda: squeeze_and_excite(keepdims=False),
    "spatial gate": spatial_gate,
    "dot over channels": lambda: dot((2, 2)),
    "dot over channels, from the end": lambda: dot(-1),
    "dot over steps": lambda: dot(1),
    "dot of vectors": dot_of_vectors,
    "flat and grid": flat_and_grid,
}


def recurrent_states(layer, states):
    x = keras.Input((5, 4))
    y, *s = layer(7, return_state=True, return_sequences=True)(x)
    assert len(s) == states
    z = layer(7)(L.Dense(6)(y), initial_state=s)
    return keras.Model(x, L.Dense(3)(L.Concatenate()([z, *s])))


def initial_state_from_dense():
    x, h = keras.Input((5, 4)), keras.Input((6,))
    state = L.Dense(7)(h)
    return keras.Model([x, h], L.Dense(3)(L.GRU(7)(x, initial_state=state)))


def initial_state_is_an_input():
    x, h = keras.Input((5, 4)), keras.Input((7,))
    return keras.Model([x, h], L.Dense(3)(L.Dense(6)(L.GRU(7)(x, initial_state=h))))


STATES = {
    "simple rnn": lambda: recurrent_states(L.SimpleRNN, 1),
    "gru": lambda: recurrent_states(L.GRU, 1),
    "lstm": lambda: recurrent_states(L.LSTM, 2),
    "from dense": initial_state_from_dense,
    "from the outside": initial_state_is_an_input,
}
