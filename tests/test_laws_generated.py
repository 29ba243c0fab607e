"""The laws on generated models: graphs of convolutions, merges, reshapes and shared and nested layers at random."""

from typing import NamedTuple

import keras
import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from keras import layers as L
from laws import TOLERANCE, VISIBLE, free_ids, measure_law, random_dead

from kerassurgery_fn import SurgeryError, analyse, capture
from kerassurgery_fn.edits.channels import delete

pytestmark = pytest.mark.keras

GENERATED = settings(
    max_examples=10, deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow]
)
MANY = settings(GENERATED, max_examples=100)


class Step(NamedTuple):
    """One step of building a model: what to do, with which tensor, with which other, and a number."""

    name: str
    tensor: int
    other: int
    number: int


# --- what a step makes of an image (N, H, W, C); None where it cannot


def conv(x, _, n):
    size = min(1 + n % 3, *x.shape[1:3])
    padding = ("same", "valid")[n % 2]
    strides = 2 if n % 5 == 0 and padding == "valid" else 1
    return L.Conv2D(2 + n % 5, size, strides=strides, padding=padding, activation=(None, "relu")[n % 3 == 0])(x)


def grouped(x, _, n):
    groups = next(g for g in (3, 2, x.shape[-1]) if x.shape[-1] % g == 0)
    return L.Conv2D(groups * (1 + n % 3), 1, groups=groups)(x)


def depthwise(x, _, n):
    return L.DepthwiseConv2D(min(2, *x.shape[1:3]), depth_multiplier=1 + n % 3, padding="same")(x)


def norm(x, _, n):
    return L.ReLU()(L.BatchNormalization(scale=n % 3 != 0, center=n % 4 != 0)(x))


def pool(x, _, n):
    window = (L.MaxPooling2D, L.AveragePooling2D)[n % 2]
    return window(2, padding="same")(x)


def upsample(x, _, n):
    return L.UpSampling2D(2)(x) if x.shape[1] < 4 else L.ZeroPadding2D(1)(x)


def merge(x, y, n):
    if y is x:
        y = L.Conv2D(x.shape[-1], 1)(x)
    if y.shape[-1] != x.shape[-1]:
        y = L.Conv2D(x.shape[-1], 1)(y)
    if y.shape[1:3] != x.shape[1:3]:
        y = L.GlobalMaxPooling2D(keepdims=True)(y)
    return (L.Add, L.Multiply, L.Maximum, L.Average, L.Subtract)[n % 5]()([x, y])


def concatenate(x, y, n):
    if y.shape[1:3] != x.shape[1:3]:
        y = L.Conv2D(2, 1)(x)
    return L.Concatenate(axis=-1)([x, y, x] if n % 4 == 0 else [x, y])


def gate(x, _, n):
    channels = x.shape[-1]
    squeezed = L.Dense(2 + n % 3, activation="relu")(L.GlobalAveragePooling2D()(x))
    return L.Multiply()([x, L.Reshape((1, 1, channels))(L.Dense(channels, activation="sigmoid")(squeezed))])


def turn(x, _, n):
    return L.Permute(((2, 1, 3), (3, 1, 2), (1, 3, 2), (3, 2, 1))[n % 4])(x)


def reshape(x, _, n):
    height, width, channels = x.shape[1:]
    factor = next(f for f in (3, 2, channels) if channels % f == 0)
    return L.Reshape(
        ((height * width, 1, channels), (height, width * channels, 1), (height, width * factor, channels // factor))[
            n % 3
        ]
    )(x)


def dense(x, _, n):
    """An image out of a Dense that reads a flattened one."""
    return L.Reshape((2, 2, 2 + n % 3))(L.Dense(4 * (2 + n % 3), activation="relu")(L.Flatten()(x)))


def shuffle(x, _, n):
    height, width, channels = x.shape[1:]
    factor = next(f for f in (3, 2, channels) if channels % f == 0)
    split = L.Reshape((height, width, factor, channels // factor))(x)
    return L.Reshape((height, width, channels))(L.Permute((1, 2, 4, 3))(split))


def shared(x, y, n):
    """One layer on two tensors, or twice on one."""
    if y.shape[-1] != x.shape[-1] or y.shape[1:3] != x.shape[1:3]:
        y = L.Conv2D(x.shape[-1], 1)(x)
    layer = (L.Conv2D(x.shape[-1], 1), L.BatchNormalization(), L.DepthwiseConv2D(1))[n % 3]
    return L.Add()([layer(x), layer(y)]) if n % 2 else layer(layer(x))


def nested(x, _, n):
    inner = keras.Input(x.shape[1:])
    made = L.Conv2D(x.shape[-1], 1)(norm(conv(inner, None, 6 + n), None, 1))
    if n % 2:
        model = keras.Model(inner, made)
    else:
        model = keras.Sequential([keras.Input(x.shape[1:]), L.Conv2D(x.shape[-1], 1), L.BatchNormalization(), L.ReLU()])
    made = model(x)
    return model(made) if n % 3 == 0 and made.shape == x.shape else made


STEPS = {
    step.__name__: step
    for step in (
        conv, grouped, depthwise, norm, pool, upsample, merge, concatenate, gate, turn, reshape, dense, shuffle, shared,
        nested,
    )
}  # fmt: skip


def build(program):
    x = keras.Input((4, 4, 2))
    return grown(x, L.Conv2D(6, 1)(x), STEPS, program, lambda shape: np.prod(shape) <= 600)


def grown(inputs, first, steps, program, fits):
    """A model by steps: each adds a tensor to the pool; what nothing has read in the end goes to the output."""
    tensors, read = [first], set()
    for step in program:
        i, j = -1 - step.tensor % min(3, len(tensors)), -1 - step.other % len(tensors)
        made = steps[step.name](tensors[i], tensors[j], step.number)
        if fits(made.shape[1:]):
            read.add(id(tensors[i]))
            tensors.append(made)
    ends = [L.Flatten()(one) for one in tensors if id(one) not in read]
    return keras.Model(inputs, L.Dense(4)(L.Concatenate()(ends) if len(ends) > 1 else ends[0]))


def programs(steps):
    step = st.builds(Step, st.sampled_from(sorted(steps)), st.integers(0, 2), st.integers(0, 5), st.integers(0, 59))
    return st.lists(step, min_size=2, max_size=8)


def check(model, seed, dying):
    """The laws on a generated model and a deletion of some of its ids; models that would not show a mistake are none.

    Where the deletion is refused, nothing may have changed.
    """
    snapshot = capture(model)
    flow = analyse(snapshot)
    dead = dying(flow, seed)
    assume(dead.any())
    try:
        delete(snapshot, flow, dead)
    except SurgeryError:
        assert capture(model) == snapshot
        return
    verdict = measure_law(model, lambda before: delete(before, analyse(before), dead), seed=seed)
    assume(verdict.sabotaged > 2 * VISIBLE)
    assert verdict.deviation < TOLERANCE, verdict


def whole_layer(flow, seed):
    """All that can be cut of one layer, and some more: branches go with it."""
    rng, dead, free = np.random.default_rng(seed), flow.fates.nobody(), free_ids(flow)
    maker = list(flow.makers.values())[rng.integers(len(flow.makers))]
    own = np.unique(flow.fates.resolve(maker.axis))
    dead[own[np.isin(own, free)]] = True
    dead[rng.permutation(free)[: len(free) // 5]] = True
    return dead


@GENERATED
@given(programs(STEPS), st.integers(0, 999))
def test_a_random_cut(program, seed):
    check(build(program), seed, random_dead)


@GENERATED
@given(programs(STEPS), st.integers(0, 999))
def test_a_layer_that_goes_as_a_whole(program, seed):
    check(build(program), seed, whole_layer)


@pytest.mark.slow
@MANY
@given(programs(STEPS), st.integers(0, 999), st.sampled_from([random_dead, whole_layer]))
def test_many_models(program, seed, dying):
    check(build(program), seed, dying)
