"""Block influence, measured on models, and blocks that are deleted by it."""

import keras
import numpy as np
import pytest
from keras import layers as L

from helpers.laws import deviation
from kerassurgery_fn import (
    capture,
    cost,
    load_statistics,
    measure_statistics,
    prune,
    residual_blocks,
    save_statistics,
    score_blocks,
)

pytestmark = pytest.mark.keras
RNG = np.random.default_rng(0)
IMAGES = RNG.normal(size=(8, 6, 6, 3)).astype("float32")


def convolutions(axis=-1):
    """A residual network with a projection in its first shortcut, and a nested model around the last block."""
    form = {"data_format": "channels_first"} if axis == 1 else {}
    i = keras.Input((3, 6, 6) if axis == 1 else (6, 6, 3), name="image")
    x = L.Conv2D(4, 1, name="stem", **form)(i)
    y = L.Conv2D(6, 1, activation="relu", name="a_1", **form)(x)
    x = L.Add(name="a")([L.Conv2D(5, 1, name="a_0", **form)(x), L.Conv2D(5, 1, name="a_2", **form)(y)])
    j = keras.Input((5, 6, 6) if axis == 1 else (6, 6, 5), name="inner")
    inner = keras.Model(j, L.Add(name="b")([L.Conv2D(5, 1, name="b_1", **form)(j), j]), name="nested")
    return keras.Model(i, L.Dense(3, name="top")(L.GlobalAveragePooling2D(name="pool", **form)(inner(x))), name="net")


def transformer():
    """A small vision transformer: patches, two blocks of attention and of units."""
    i = keras.Input((6, 6, 3), name="image")
    x = L.Reshape((9, 4), name="tokens")(L.Conv2D(4, 2, strides=2, name="patches")(i))
    for b in range(2):
        y = L.LayerNormalization(name=f"{b}_norm_1")(x)
        x = L.Add(name=f"{b}_add_1")([x, L.MultiHeadAttention(2, 3, name=f"{b}_attention")(y, y)])
        y = L.Dense(8, activation="gelu", name=f"{b}_up")(L.LayerNormalization(name=f"{b}_norm_2")(x))
        x = L.Add(name=f"{b}_add_2")([x, L.Dense(4, name=f"{b}_down")(y)])
    return keras.Model(i, L.Dense(2, name="top")(L.Flatten(name="flat")(x)), name="vit")


def randomised(model):
    rng = np.random.default_rng(1)
    model.set_weights([rng.normal(size=array.shape).astype(array.dtype) for array in model.get_weights()])
    return model


@pytest.fixture(scope="module")
def net():
    return randomised(convolutions())


def cosine(a, b):
    return (a * b).sum(-1) / np.sqrt((a * a).sum(-1) * (b * b).sum(-1))


def test_the_influence_is_that_of_the_tensors(net):
    shortcut, total = keras.Model(net.input, [net.get_layer("a_0").output, net.get_layer("a").output])(IMAGES)
    after = np.asarray(net.get_layer("nested")(total))
    expected = {"a": cosine(np.asarray(shortcut), np.asarray(total)), "nested/b": cosine(np.asarray(total), after)}
    scores = score_blocks(net, "block_influence", data=IMAGES)
    assert dict(scores) == pytest.approx({name: 1 - values.mean() for name, values in expected.items()}, abs=1e-5)


def test_the_split_of_the_data_does_not_matter(net, tmp_path):
    whole = measure_statistics(net, IMAGES, "block_influence")
    parts = [measure_statistics(net, part, "block_influence", batch_size=2) for part in (IMAGES[:3], IMAGES[3:])]
    save_statistics(parts[0], tmp_path / "part.npz")
    added = load_statistics(tmp_path / "part.npz") + parts[1]
    scores = [score_blocks(net, "block_influence", statistics=statistics) for statistics in (whole, added)]
    assert dict(scores[0]) == pytest.approx(dict(scores[1]), abs=1e-6)


@pytest.mark.onednn("convolution with channels_first")
def test_channels_first(net):
    first = convolutions(axis=1)
    first.set_weights(net.get_weights())
    scores = score_blocks(first, "block_influence", data=np.moveaxis(IMAGES, -1, 1))
    assert dict(scores) == pytest.approx(dict(score_blocks(net, "block_influence", data=IMAGES)), abs=1e-5)


@pytest.mark.parametrize("make", [convolutions, transformer])
def test_a_block_that_adds_nothing_has_no_influence_and_goes_without_a_trace(make):
    """The surgery law of depth: the pruned model is the original with the last layer of the branch zeroed."""
    model = randomised(make())
    name = {"net": "nested/b_1", "vit": "1_attention"}[model.name]
    block = next(block for block in residual_blocks(capture(model)) if name in block.layers)
    owner = model.get_layer("nested") if "/" in name else model
    silent = owner.get_layer(name.split("/")[-1])
    truth = np.asarray(model(IMAGES))
    silent.set_weights([0 * array for array in silent.get_weights()])
    scores = score_blocks(model, "block_influence", data=IMAGES)
    assert scores[block.merge] == pytest.approx(0, abs=1e-6)
    assert min(scores, key=scores.get) == block.merge
    result = prune(model, macs=0.999, depth="only", by="block_influence", data=IMAGES)
    assert name not in capture(result.model).weights
    assert result.after == cost(capture(result.model))
    assert deviation([np.asarray(result.model(IMAGES))], [np.asarray(model(IMAGES))]) < 1e-5
    assert deviation([np.asarray(result.model(IMAGES))], [truth]) > 1e-3
