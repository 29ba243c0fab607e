"""Statistics of data, beside what Keras does with the same data."""

from collections.abc import Callable, Iterator

import keras
import numpy as np
import tensorflow as tf
from networks import network
from timing import Settings, in_turns, markdown, milliseconds, times_as_long

from kerassurgery_fn import Snapshot, analyse, capture, measure_statistics
from kerassurgery_fn.measure.channel_views import channel_axes, views_of_free_channels
from kerassurgery_fn.measure.criterion_statistics import Options
from kerassurgery_fn.measure.input_batches import batches
from kerassurgery_fn.measure.sample_losses import objective_of
from kerassurgery_fn.measure.statistics_pass import added_up, start_pass
from kerassurgery_fn.pruning import CRITERIA

OF_ACTIVATIONS, OF_GRADIENTS = ("apoz", "variance", "hrank"), ("taylor", "snip")
FACTORISATIONS = "a product and a factorisation of each map of `hrank`"


def main(settings: Settings, samples: int = 16, batch_size: int = 8) -> Iterator[str]:
    """The table of this benchmark. All functions are compiled in the turn that does not count."""
    yield many_samples(settings)
    model = network("ResNet50")
    model.compile("sgd", "sparse_categorical_crossentropy", jit_compile=False)
    rng = np.random.default_rng(0)
    data = rng.random((samples, 224, 224, 3), "float32"), rng.integers(0, 1000, samples)
    snapshot = capture(model)

    def pass_of(by: str) -> Callable[[], object]:
        options = Options(views_of_free_channels, objective_of(model))
        measure = start_pass(CRITERIA[by].needs, snapshot, options, model)
        return lambda: added_up(map(measure, batches(data, batch_size, None)))

    @tf.function
    def gradients(x: tf.Tensor, y: tf.Tensor) -> list[tf.Tensor]:
        with tf.GradientTape() as tape:
            loss = model.compute_loss(x, y, model(x, training=True))
        return tape.gradient(loss, [weight.value for weight in model.trainable_weights])

    def epoch() -> None:
        for batch in batches(data, batch_size, None):
            gradients(tf.constant(batch.x), tf.constant(batch.y))

    subjects: dict[str, Callable[[], object]] = {by: pass_of(by) for by in (*OF_ACTIVATIONS, *OF_GRADIENTS)}
    subjects[FACTORISATIONS] = factorisations(model, snapshot, samples)
    subjects["predict"] = lambda: model.predict(data[0], batch_size=batch_size, verbose=0)
    subjects["gradients of one epoch"] = epoch
    times = in_turns(subjects, settings)
    forward, backward = (*OF_ACTIVATIONS, FACTORISATIONS), OF_GRADIENTS
    against = dict.fromkeys(forward, "predict") | dict.fromkeys(backward, "gradients of one epoch")
    rows = [
        [by, milliseconds(times[by]), other, milliseconds(times[other]), times_as_long(times[by], times[other])]
        for by, other in against.items()
    ]
    yield markdown([f"one pass over {samples} images of 224 pixels", "time", "against", "time", "ratio"], rows)


def many_samples(settings: Settings, samples: int = 2048, size: int = 64) -> str:
    """The table of `hrank` over so many samples that it ranks a selection."""
    model = keras.applications.ResNet50(weights=None, input_shape=(size, size, 3), classes=10)
    images = np.random.default_rng(0).random((samples, size, size, 3), "float32")
    subjects = {
        "hrank": lambda: measure_statistics(model, images, "hrank", progress=False),
        "predict": lambda: model.predict(images, verbose=0),
    }
    times = in_turns(subjects, settings)
    row = ["hrank", milliseconds(times["hrank"]), "predict", milliseconds(times["predict"])]
    row.append(times_as_long(times["hrank"], times["predict"]))
    return markdown([f"one pass over {samples} images of {size} pixels", "time", "against", "time", "ratio"], [row])


def factorisations(model: keras.Model, snapshot: Snapshot, samples: int) -> Callable[[], object]:
    """The least work for the ranks of all feature maps: the product of a map with its transpose, and one Cholesky
    factorisation. The maps are random, with the sizes of those whose ranks `hrank` computes."""
    views = channel_axes(views_of_free_channels(analyse(snapshot)))
    shapes = [model.get_layer(ref.path).output.shape for ref, _ in views]
    maps = [tf.random.uniform((channels, rows, columns), dtype="float64") for _, rows, columns, channels in shapes]

    @tf.function
    def factorised(matrices: list[tf.Tensor]) -> list[tf.Tensor]:
        products = [tf.matmul(matrix, matrix, transpose_b=True) for matrix in matrices]
        return [tf.linalg.cholesky(product + tf.eye(len(product[0]), dtype="float64")) for product in products]

    return lambda: [factorised(maps) for _ in range(samples)]
