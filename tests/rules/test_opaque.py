"""Layers that nothing is known of: wherever one stands, what it touches is refused and all else is cut exactly."""

import keras
import numpy as np
import pytest
from keras import layers as L
from keras import ops

from helpers.laws import check_law, free_ids
from helpers.records import call, functional, layer
from helpers.small_models import dense_head
from kerassurgery_fn import DeleteChannels, Snapshot, analyse, capture
from kerassurgery_fn.channels import has_ids
from kerassurgery_fn.errors import PinnedChannels
from kerassurgery_fn.graph import refs
from kerassurgery_fn.rules.registry import RULES


@keras.saving.register_keras_serializable("tests")
class Mirror(L.Layer):
    """Mixes every channel with the one across, by weights that it hides among others."""

    def build(self, shape):
        self.noise = self.add_weight((3,), name="noise")
        self.kernel = self.add_weight((shape[-1],), name="kernel", initializer="ones")

    def compute_output_shape(self, shape):
        return shape

    def call(self, x):
        return x + self.kernel * ops.flip(x, axis=-1) + ops.mean(self.noise)


@keras.saving.register_keras_serializable("tests")
class Cell(L.Layer):
    """A recurrent cell that mixes all it has."""

    def __init__(self, units, **options):
        super().__init__(**options)
        self.units = self.state_size = self.output_size = units

    def build(self, shape):
        self.kernel = self.add_weight((shape[-1], self.units), name="kernel")

    def call(self, x, states, training=False):
        state = ops.tanh(ops.matmul(x, self.kernel) + ops.flip(states[0], axis=-1))
        return state, [state]

    def get_config(self):
        return {**super().get_config(), "units": self.units}


@keras.saving.register_keras_serializable("tests")
def mirrored(x):
    return x + 0.5 * ops.flip(x, axis=-1)


# --- three models, with a place for a layer after every layer


def convolutions(at):
    x = keras.Input((7, 7, 3))
    y = at(L.Conv2D(6, 3, name="a")(at(x)))
    y = at(L.MaxPooling2D()(at(L.BatchNormalization()(y))))
    y = at(L.Dense(7, name="b")(at(L.Flatten()(y))))
    return keras.Model(x, at(L.Dense(4, name="c")(y)))


def branches(at):
    x = keras.Input((6, 6, 3))
    y = at(L.Conv2D(6, 1, name="a")(x))
    z = at(L.Conv2D(6, 3, padding="same", name="b")(y))
    y = at(L.Add()([at(y), z]))
    y = at(L.Concatenate()([y, at(L.DepthwiseConv2D(3, padding="same")(at(L.Conv2D(4, 1, name="c")(y))))]))
    y = at(L.Conv2D(8, 2, groups=2, name="d")(y))
    return keras.Model(x, dense_head(at(y)))


def sequences(at):
    x = keras.Input((5, 4))
    y = at(L.Dense(8, name="a")(x))
    z = at(L.MultiHeadAttention(2, 3, name="b")(y, at(y)))
    y = at(L.Add()([y, z]))
    y = at(L.Bidirectional(L.GRU(5, return_sequences=True), name="c")(y))
    y = at(L.TimeDistributed(L.Dense(6), name="d")(y))
    return keras.Model(x, L.Dense(3)(at(L.LSTM(5, name="e")(y))))


MODELS = {"convolutions": (convolutions, 7), "branches": (branches, 9), "sequences": (sequences, 7)}
OPAQUE = {"a layer with weights": Mirror, "a function": lambda name: L.Lambda(mirrored, name=name)}
POSITIONS = [  # the two kinds by turns
    (name, place, [*OPAQUE][place % 2]) for name, (_, places) in MODELS.items() for place in range(places)
]


class At:
    """A function that puts a layer on the tensor it is called on for the n-th time, and leaves all others alone."""

    def __init__(self, layer, place):
        self.layer, self.place, self.calls = layer, place, 0

    def __call__(self, tensor):
        self.calls += 1
        return self.layer(tensor) if self.calls == self.place + 1 else tensor


@pytest.mark.keras
@pytest.mark.parametrize("name, place, kind", POSITIONS)
def test_an_opaque_layer_anywhere(name, place, kind):
    build, places = MODELS[name]
    at = At(OPAQUE[kind](name="opaque"), place)
    model = build(at)
    assert at.calls == places
    flow = analyse(snapshot := capture(model))
    if len(free_ids(flow)):
        check_law(model, opaque={"opaque"})
    read = [flow.tensors[ref] for call in flow.trace.calls if call.path == "opaque" for ref in refs(call.args)]
    ids = [flow.solution.resolve(axis).ravel() for axis in read[0] if has_ids(axis)]
    held = np.concatenate([np.array([], int), *ids])
    assert flow.solution.pinned(output=False)[held].all()
    for (path, kind), producer in flow.producers.items():
        mine = np.isin(flow.solution.resolve(producer.axis), held).all(axis=0)  # no line of a grid that may go
        if mine.any():
            with pytest.raises(PinnedChannels, match=r"'opaque' \((Mirror|Lambda)\)"):
                DeleteChannels(f"{path}:{kind}", mine)(snapshot)


@pytest.mark.keras
@pytest.mark.parametrize("name", MODELS)
def test_a_model_without_an_opaque_layer_can_be_cut_everywhere(name):
    model = MODELS[name][0](lambda tensor: tensor)
    assert check_law(model).prunable > 0.75


@pytest.mark.keras
def test_a_cell_without_a_rule():
    x = keras.Input((5, 4))
    y = L.RNN(Cell(6), return_sequences=True, name="rnn")(L.Dense(7, name="held")(x))
    model = keras.Model(x, L.Dense(3)(L.LSTM(5, name="free")(y)))
    check_law(model, opaque={"rnn"})
    flow = analyse(capture(model))
    assert "tests>Cell, which has no rule" in flow.opaque["rnn"]
    assert flow.solution.pinned()[flow.solution.resolve(flow.producer("held").axis)].all()


@pytest.mark.keras
def test_a_wrapper_around_an_opaque_layer():
    x = keras.Input((5, 4))
    model = keras.Model(x, dense_head(L.Dense(6)(L.TimeDistributed(Mirror(), name="wrapper")(L.Dense(7)(x)))))
    check_law(model, opaque={"wrapper"})


@pytest.mark.parametrize(
    "class_name", [name for name, known in RULES.items() if known.pins and not name.startswith("ops.")]
)
def test_classes_that_pin_say_why(class_name):
    calls = [
        call(layer("Dense", "a", units=3), "x"),
        call(layer(class_name, "opaque"), "a", out=(None, 3)),
        call(layer("Dense", "b", units=2), "opaque"),
    ]
    snapshot = Snapshot(functional("m", {"x": [None, 5]}, *calls, outputs="b"), {})
    assert analyse(snapshot).opaque["opaque"] == RULES[class_name].pins
    with pytest.raises(PinnedChannels, match=RULES[class_name].pins):
        DeleteChannels("a", [0])(snapshot)


@pytest.mark.keras
def test_a_class_without_a_rule_says_how_to_teach_it():
    x = keras.Input((4,))
    flow = analyse(capture(keras.Model(x, L.Dense(3)(Mirror(name="mirror")(L.Dense(5)(x))))))
    assert flow.opaque == {
        "mirror": "is of the class tests>Mirror, which has no rule; add one by a function under "
        '@kerassurgery_fn.rule("tests>Mirror")'
    }
