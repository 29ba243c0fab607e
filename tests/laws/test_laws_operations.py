"""The laws on operations that treat every element alone, combine tensors, reduce axes, multiply and sum."""

import keras
import numpy as np
import pytest
from keras import layers as L
from keras import ops

from helpers.laws import check_law
from helpers.operation_models import apply, combine, constant, positive, whole
from helpers.small_models import dense_head
from helpers.swaps import check_swaps

pytestmark = pytest.mark.keras


# --- element by element

ALONE = [
    "abs", "absolute", "negative", "sign", "square", "sqrt", "rsqrt", "reciprocal", "ceil", "floor", "round",
    "trunc", "nan_to_num", "copy", "stop_gradient", "exp", "exp2", "expm1", "log", "log10", "log1p", "log2", "erf",
    "erfinv", "sin", "cos", "tan", "arcsin", "arccos", "arctan", "sinh", "cosh", "tanh", "arcsinh", "arctanh", "sinc",
    "i0", "deg2rad", "rad2deg", "cbrt", "real", "conj", "conjugate", "ones_like", "zeros_like",
    "relu", "relu6", "leaky_relu", "elu", "celu", "selu", "gelu", "silu", "swish", "sigmoid", "log_sigmoid",
    "hard_sigmoid", "hard_silu", "hard_tanh", "tanh_shrink", "softplus", "softsign", "squareplus", "sparse_plus",
    "sparse_sigmoid",
]  # fmt: skip


@pytest.mark.parametrize("name", ALONE)
def test_functions_of_one_tensor(name):
    check_law(apply(lambda x: x * (2 + getattr(ops, name)(positive(3 * x)))))


OTHERS = {
    "arccosh": lambda x: ops.arccosh(1 + positive(x)),
    "hard shrink": lambda x: ops.hard_shrink(x, 0.2),
    "soft shrink": lambda x: ops.soft_shrink(x, 0.2),
    "threshold": lambda x: ops.threshold(x, 0.1, -0.3),
    "clip": lambda x: ops.clip(x, -0.7, 0.9),
    "cast": lambda x: x + ops.cast(whole(x), "float32"),
    "saturate cast": lambda x: x + ops.cast(ops.saturate_cast(9 * x, "int8"), "float32"),
    "tests": lambda x: ops.where(ops.isfinite(1 / x) & ~ops.isnan(x) & ~ops.isinf(x), x, 0.0),
    "more tests": lambda x: ops.where(ops.isposinf(x) | ops.isneginf(x) | ops.isreal(x), x, 0.0),
    "signbit": lambda x: ops.where(ops.signbit(x), x, 0.0),
    "bits inverted": lambda x: x + ops.cast(ops.bitwise_not(ops.bitwise_invert(whole(x))), "float32"),
    "angle": lambda x: x + ops.angle(x),
    "imaginary part": lambda x: x + ops.imag(x),
    "a tensor of it": lambda x: ops.array(ops.convert_to_tensor(x)),
    "glu": lambda x: ops.glu(x),
    "glu over steps": lambda x: ops.glu(x[:, :6], axis=1),
    "digitized": lambda x: x + ops.cast(ops.digitize(x, np.array([-0.5, 0.0, 0.5], "float32")), "float32"),
    "is in": lambda x: x * ops.cast(ops.isin(whole(x), [0, 1]), "float32"),
    "full like": lambda x: x + ops.full_like(x, 0.5),
    "one hot of codes": lambda x: ops.one_hot(ops.argmax(x, axis=1), 7, axis=1) * x,
    "cosine similarity of steps": lambda x: ops.normalize(x) @ ops.swapaxes(ops.normalize(x), 1, 2),
}


@pytest.mark.parametrize("name", OTHERS)
def test_more_functions_of_one_tensor(name):
    check_law(apply(OTHERS[name]))


COMBINED = {
    "add": lambda x, y: x + y,
    "subtract": lambda x, y: x - y,
    "multiply": lambda x, y: x * y,
    "divide": lambda x, y: ops.divide(x, 1 + ops.square(y)),
    "true divide": lambda x, y: x / (1 + y**2),
    "divide without nan": lambda x, y: ops.divide_no_nan(x, 1 + ops.relu(y)),
    "floor divide": lambda x, y: x + x // (2 + ops.abs(y)),
    "mod": lambda x, y: x + x % (1 + ops.abs(y)),
    "power": lambda x, y: x + (1 + ops.abs(x)) ** ops.tanh(y),
    "maximum": ops.maximum,
    "minimum": ops.minimum,
    "arctan2": lambda x, y: ops.arctan2(x, 1 + ops.abs(y)),
    "hypot": lambda x, y: x + ops.hypot(x, y),
    "logaddexp": lambda x, y: x + ops.logaddexp(x, y),
    "logaddexp2": lambda x, y: x + ops.logaddexp2(x, y),
    "heaviside": lambda x, y: x + ops.heaviside(x, y),
    "nextafter": lambda x, y: ops.nextafter(x, y),
    "ldexp": lambda x, y: ops.ldexp(x, whole(ops.tanh(y))),
    "equal": lambda x, y: x * ops.cast(ops.equal(whole(x), whole(y)), "float32") + y,
    "not equal": lambda x, y: x * ops.cast(whole(x) != whole(y), "float32"),
    "greater": lambda x, y: x * ops.cast(x > y, "float32"),
    "greater or equal": lambda x, y: x * ops.cast(x >= y, "float32"),
    "less": lambda x, y: x * ops.cast(x < y, "float32"),
    "less or equal": lambda x, y: x * ops.cast(x <= y, "float32"),
    "is close": lambda x, y: y + x * ops.cast(ops.isclose(x, y, rtol=0.5), "float32"),
    "logical and": lambda x, y: x * ops.cast((x > 0) & (y > 0), "float32"),
    "logical or": lambda x, y: x * ops.cast((x > 0) | (y > 0), "float32"),
    "logical xor": lambda x, y: x * ops.cast((x > 0) ^ (y > 0), "float32"),
    "logical not": lambda x, y: x * ops.cast(~(y > 0), "float32"),
    "bitwise and": lambda x, y: x + ops.cast(ops.bitwise_and(whole(x), whole(y)), "float32"),
    "bitwise or": lambda x, y: x + ops.cast(ops.bitwise_or(whole(x), whole(y)), "float32"),
    "bitwise xor": lambda x, y: x + ops.cast(ops.bitwise_xor(whole(x), whole(y)), "float32"),
    "bitwise shifts": lambda x, y: (
        x + ops.cast(ops.right_shift(ops.left_shift(whole(x), whole(ops.abs(y))), 1), "float32")
    ),
    "greatest common divisor": lambda x, y: x + ops.cast(ops.gcd(whole(x), whole(y)), "float32"),
    "least common multiple": lambda x, y: x + ops.cast(ops.lcm(whole(x), whole(y)), "float32"),
    "where": lambda x, y: ops.where(x > 0, x, y),
    "where on one side": lambda x, y: ops.where(x > y, x, 0.0),
    "select": lambda x, y: ops.select([x > 1, y > 0], [x, y], 0.0),
    "add to the mean over steps": lambda x, y: x + ops.mean(y, axis=1, keepdims=True),
    "gate by a number a step": lambda x, y: x * ops.sum(y**2, axis=-1, keepdims=True),
}


@pytest.mark.parametrize("name", COMBINED)
def test_two_tensors_element_by_element(name):
    check_law(combine(COMBINED[name]))


# --- constants in calls

V, M, T = constant(8), constant(7, 8), constant(1, 7, 8)
CONSTANTS = {
    "a number": lambda x: 2 * x + 1.0,
    "a number from the left": lambda x: 1 - x,
    "a vector": lambda x: x * V,
    "a vector from the left": lambda x: ops.subtract(V, x),
    "a list": lambda x: ops.arctan2(x, V.tolist()),
    "a list from the left": lambda x: ops.arctan2(V.tolist(), x),
    "a list of lists": lambda x: ops.arctan2(x, M.tolist()),
    "a list that is compared with": lambda x: x * ops.cast(x > V.tolist(), "float32"),
    "a list in a config": lambda x: x + ops.elu(x, V.tolist()),
    "lists that scale a norm over steps": lambda x: ops.layer_normalization(x, M[:, 0].tolist(), axis=1),
    "a matrix": lambda x: x * M,
    "a stack": lambda x: x * T,
    "a column": lambda x: x + M[:, :1],
    "a row": lambda x: x + M[:1],
    "a tensor": lambda x: x + ops.convert_to_tensor(V),
    "where": lambda x: ops.where(x > V, x, V),
    "a mask": lambda x: ops.where(V > 1, x, 0.0),
    "maximum": lambda x: ops.maximum(x, V - 1),
    "twice the same array": lambda x: (x + V) * V,
    "concatenated": lambda x: ops.concatenate([x, x * V], axis=-1),
    "matrix product": lambda x: x @ constant(8, 6),
    "matrix product from the left": lambda x: ops.matmul(constant(3, 7), x),
    "matrix product with a vector": lambda x: ops.expand_dims(x @ V, -1) + x,
    "dot": lambda x: ops.dot(x, constant(8, 6)),
    "einsum": lambda x: ops.einsum("btc,cd->btd", x, constant(8, 6)),
    "tensordot": lambda x: ops.tensordot(x, constant(8, 6), axes=[[2], [0]]),
    "convolution": lambda x: ops.conv(x, constant(3, 8, 6), padding="same"),
    "depthwise convolution": lambda x: ops.depthwise_conv(x, constant(3, 8, 1)),
    "depthwise convolution times 2": lambda x: ops.depthwise_conv(x, constant(3, 8, 2)),
    "separable convolution": lambda x: ops.separable_conv(x, constant(3, 8, 2), constant(1, 16, 5)),
    "batch norm": lambda x: ops.batch_normalization(x, V, 2 * V, -1, offset=V, scale=V),
    "add and softmax over steps": lambda x: ops.softmax(x + V, axis=1),
    "stacked": lambda x: ops.stack([x, x * V], axis=2),
}


@pytest.mark.parametrize("name", CONSTANTS)
def test_constants_are_cut_like_weights(name):
    check_law(apply(CONSTANTS[name]))


# --- reductions

EXACT = {
    "sum over channels": lambda x: x + ops.sum(x, axis=-1, keepdims=True),
    "sum over channels, no axis left": lambda x: ops.sum(x, axis=2)[:, :, None] * x,
    "sum over steps": lambda x: ops.sum(x, axis=1),
    "sum over steps and channels": lambda x: ops.sum(x, axis=(1, 2), keepdims=True) + x,
    "mean over steps": lambda x: ops.mean(x, axis=1),
    "mean over steps, kept": lambda x: ops.mean(x, axis=-2, keepdims=True) * x,
    "max over steps": lambda x: ops.max(x, axis=1),
    "min over steps": lambda x: ops.min(x, axis=1),
    "amax over steps": lambda x: ops.amax(x, axis=1),
    "amin over steps": lambda x: ops.amin(x, axis=1),
    "prod over steps": lambda x: ops.prod(1 + x, axis=1),
    "var over steps": lambda x: ops.var(x, axis=1),
    "std over steps": lambda x: ops.std(x, axis=1),
    "median over steps": lambda x: ops.median(x, axis=1),
    "logsumexp over steps": lambda x: ops.logsumexp(x, axis=1),
    "average over steps": lambda x: ops.average(x, axis=1, weights=constant(7)),
    "norm over steps": lambda x: ops.norm(x, axis=1),
    "all over steps": lambda x: x * ops.cast(ops.all(x > -1, axis=1, keepdims=True), "float32"),
    "any over steps": lambda x: x * ops.cast(ops.any(x > 1, axis=1, keepdims=True), "float32"),
    "count over steps": lambda x: x[:, 0] * ops.cast(ops.count_nonzero(x > 0, axis=1), "float32"),
    "argmax over steps": lambda x: x[:, 0] * ops.cast(ops.argmax(x, axis=1), "float32"),
    "cumsum over steps": lambda x: ops.cumsum(x, axis=1),
    "cumsum over channels": lambda x: ops.cumsum(x, axis=-1),
    "cumprod over steps": lambda x: ops.cumprod(1 + x, axis=1),
    "sort over steps": lambda x: ops.sort(x, axis=1),
    "argsort over steps": lambda x: x * ops.cast(ops.argsort(x, axis=1), "float32"),
    "diff over steps": lambda x: ops.diff(x, axis=1),
    "quantile over steps": lambda x: ops.quantile(x, 0.3, axis=1),
    "quantiles over steps": lambda x: ops.quantile(x, [0.3, 0.6], axis=1)[1],
    "percentile over steps": lambda x: ops.percentile(x, 30, axis=1),
    "trapezoid over steps": lambda x: ops.trapezoid(x, axis=1),
    "moments over steps": lambda x: ops.concatenate(ops.moments(x, axes=[1]), axis=-1),
    "nan-sum": lambda x: x + ops.nansum(x, axis=-1, keepdims=True),
    "norm over channels": lambda x: x * ops.norm(x, axis=-1, keepdims=True),
    "normalize over steps": lambda x: ops.normalize(x, axis=1),
    "normalize over channels": lambda x: ops.normalize(x, axis=-1, epsilon=1e-6),
    "softmax over steps": lambda x: ops.softmax(x, axis=1),
    "log softmax over steps": lambda x: ops.log_softmax(x, axis=-2),
}


@pytest.mark.parametrize("name", EXACT)
def test_reductions_that_are_exact(name):
    check_law(apply(EXACT[name]))


INEXACT = {
    "mean": lambda x: x + ops.mean(x, axis=-1, keepdims=True),
    "max": lambda x: x + ops.max(x, axis=-1, keepdims=True),
    "min": lambda x: x + ops.min(x, axis=2, keepdims=True),
    "prod": lambda x: x + ops.prod(x, axis=-1, keepdims=True),
    "var": lambda x: x + ops.var(x, axis=-1, keepdims=True),
    "std": lambda x: x + ops.std(x, axis=-1, keepdims=True),
    "median": lambda x: x + ops.median(x, axis=-1, keepdims=True),
    "logsumexp": lambda x: x + ops.logsumexp(x, axis=-1, keepdims=True),
    "average": lambda x: x + ops.average(x, axis=-1)[:, :, None],
    "average by weights": lambda x: x + ops.average(x, axis=-1, weights=V)[:, :, None],
    "quantile": lambda x: x + ops.quantile(x, 0.3, axis=-1, keepdims=True),
    "least norm": lambda x: x + ops.norm(x, ord=-1, axis=-1, keepdims=True),
    "everything": lambda x: x + ops.mean(x),
    "softmax": lambda x: ops.softmax(x),
    "log softmax": lambda x: ops.log_softmax(x),
    "sparsemax": lambda x: ops.sparsemax(x),
    "layer norm": lambda x: ops.layer_normalization(x, V, V),
    "layer norm without scale": lambda x: ops.layer_normalization(x),
    "rms norm": lambda x: ops.rms_normalization(x, V),
    "moments": lambda x: x * ops.moments(x, axes=[-1], keepdims=True)[1],
}


@pytest.mark.parametrize("name", INEXACT)
def test_reductions_over_channels_are_inexact(name):
    model = apply(INEXACT[name])
    check_law(model, inexact=True)
    check_swaps(model)


PINNED = {
    "argmax": lambda x: x[:, :, :1] * ops.cast(ops.argmax(x, axis=-1, keepdims=True), "float32"),
    "argmin": lambda x: ops.cast(ops.argmin(x, axis=-1), "float32"),
    "sort": lambda x: ops.sort(x),
    "cumprod": lambda x: ops.cumprod(x, axis=-1),
    "top k": lambda x: ops.top_k(x, 3)[0],
}


@pytest.mark.parametrize("name", PINNED)
def test_operations_that_need_the_order_of_channels_pin_them(name):
    check_law(apply(PINNED[name], head=False), pinned=True)


# --- products

PRODUCTS = {
    "matrix product": lambda x, y: x @ ops.transpose(y, (0, 2, 1)),
    "gram matrix": lambda x, y: ops.matmul(ops.swapaxes(x, 1, 2), y),
    "matrix product of stacks": lambda x, y: ops.matmul(x[:, None], ops.swapaxes(y, 1, 2)[:, None])[:, 0],
    "matrix product, broadcast": lambda x, y: ops.matmul(x, ops.swapaxes(y[0], 0, 1)),
    "einsum of attention": lambda x, y: ops.einsum("bqc,bkc->bqk", x, y),
    "einsum of a gram matrix": lambda x, y: ops.einsum("btc,btd->bcd", x, y),
    "einsum with dots": lambda x, y: ops.einsum("...c,...c->...", x, y)[:, :, None] + x,
    "einsum of a diagonal": lambda x, y: ops.einsum("bcc->bc", ops.swapaxes(x, 1, 2) @ y)[:, None],
    "einsum of three": lambda x, y: ops.einsum("btc,bsc,btd->bsd", x, y, x),
    "tensordot": lambda x, y: x + ops.tensordot(x, y, axes=[[0, 1, 2], [0, 1, 2]]),
    "tensordot of the last axes": lambda x, y: ops.tensordot(x, ops.mean(y[0], 0), axes=1)[:, :, None] + y,
    "vdot": lambda x, y: x + ops.vdot(x, y),
    "dot with a vector": lambda x, y: ops.dot(x, ops.mean(y[0], 0))[:, :, None] + y,
    "inner": lambda x, y: x + ops.mean(ops.inner(x, y), axis=(2, 3))[:, :, None],
    "outer": lambda x, y: x @ ops.outer(ops.mean(x[0], 0), ops.mean(y[0], 0)),
    "distances": lambda x, y: ops.cdist(x, y),
    "attention": lambda x, y: ops.dot_product_attention(*(t[:, :, None] for t in (x, y, y)))[:, :, 0],
    "outer of channels": lambda x, y: ops.reshape(x[:, :, :, None] * y[:, :, None], (-1, 7, 64)),
}


@pytest.mark.parametrize("name", PRODUCTS)
def test_products(name):
    check_law(combine(PRODUCTS[name]))


# --- attention as an operation


def heads(dense, x, number, size=3):
    return ops.reshape(dense(x), (-1, 7, number, size))


def attention(queries=4, keys=4, **options):
    """Attention of some query heads on as many or fewer heads of keys and values."""
    x = keras.Input((7, 5))
    q, k, v = (heads(L.Dense(3 * n), x, n) for n in (queries, keys, keys))
    return keras.Model(
        x, dense_head(L.Dense(4)(ops.reshape(ops.dot_product_attention(q, k, v, **options), (-1, 7, 3 * queries))))
    )


ATTENTION = {
    "plain": attention,
    "to fewer heads": lambda: attention(4, 2),
    "causal": lambda: attention(is_causal=True),
    "with a scale": lambda: attention(scale=0.3),
    "with a bias for each head": lambda: attention(bias=constant(1, 4, 7, 7)),
    "with a bias for all heads": lambda: attention(bias=constant(1, 1, 7, 7)),
    "with a mask": lambda: attention(mask=constant(1, 1, 7, 7) > 1),
    "with a mask for each head": lambda: attention(3, 3, mask=constant(1, 3, 7, 7) > 1),
}


@pytest.mark.parametrize("name", ATTENTION)
def test_attention(name):
    verdict = check_law(ATTENTION[name]())
    assert verdict.prunable > 0.8, verdict
