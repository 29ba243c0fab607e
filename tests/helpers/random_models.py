"""Random models: small, of all kinds of layers, each made of a seed.

Every step of building one has random numbers of its own, so that a model without some of its steps is the same model
for the rest: what is found on a model can be found on a smaller one. Layers are numbered by the step that made them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from math import prod
from random import Random
from typing import Any

import keras
import numpy as np
from keras import layers as L
from keras.src.backend.common import global_state

from helpers.filling import randomise
from helpers.random_layers import constrained, random_layer
from helpers.random_steps import STEPS, chain
from kerassurgery_fn.keras_io.scopes import without_weights

MOST = 400  # elements of a tensor, for one sample
OPEN = 8  # what an open size counts for
INPUTS = {
    "vector": (6,), "sequence": (5, 4), "open sequence": (None, 4), "image": (5, 5, 3), "open image": (None, None, 3),
    "volume": (3, 4, 4, 2), "words": (5,), "masked words": (5,),
}  # fmt: skip
POLICIES = ("mixed_bfloat16", "mixed_float16", "float64", "bfloat16")
LOSSES = ("mse", "mae", "huber")


def random_model(seed: int, without: Collection[int] = ()) -> keras.Model:
    """The model of a seed with random weights, compiled or not; less some of its steps."""
    r = Random(seed)
    keras.utils.set_random_seed(seed % 2**32)
    policy = r.choice(POLICIES) if r.random() < 0.08 else "float32"
    with dtype_policy(policy), without_weights():  # Keras draws many, for the layers of steps that are refused, too
        model = (random_chain if r.random() < 0.15 else random_graph)(r, seed, without)
    for variable in model.variables:
        if "float" in variable.dtype:
            variable._initializer = keras.initializers.Zeros()
        variable._deferred_initialize()
    randomise(model, seed)
    apply_constraints(model)
    if r.random() < 0.2:
        freeze(r, model)
    if r.random() < 0.35 and policy == "float32":
        compiled(r, model)
    return model


@contextmanager
def dtype_policy(name: str) -> Iterator[None]:
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


class Names(dict[str, int]):
    """What Keras numbers new layers by: from some number on."""

    def __init__(self, first: int) -> None:
        super().__init__()
        self.first = first

    def __contains__(self, key: object) -> bool:
        return True

    def __missing__(self, key: str) -> int:
        return self.first


def number_layers_from(first: int) -> None:
    global_state.set_global_attribute("object_name_uids", Names(first))


# --- graphs


class Growth:
    """A graph under way: the random numbers of its present step, its tensors, and which of them have been read."""

    def __init__(self, tensors: list[Any]) -> None:
        self.r, self.tensors, self.read = Random(), tensors, set[int]()

    def other(self, x: Any) -> Any:
        """Another tensor of the rank of x and of no open size, or x itself if there is none."""
        alike = [y for y in self.tensors if len(y.shape) == len(x.shape) and y is not x and None not in y.shape[1:]]
        return self.r.choice(alike or [x])

    def step(self) -> None:
        """One more tensor, unless Keras refuses the step or the tensor is too big."""
        x = self.r.choice(self.tensors[-3:])
        move = self.r.choice(STEPS[len(x.shape)]) if self.r.random() < 0.5 else None
        try:
            made = move(self, x) if move else random_layer(self.r, x.shape)(x)
        except (ValueError, TypeError):  # of Keras: a window that is too large, an open size where none may be
            return
        if fits(made):
            self.read.add(id(x))
            self.tensors.append(made)

    def ends(self) -> list[Any]:
        return [x for x in self.tensors if id(x) not in self.read] or self.tensors[-1:]


def fits(x: Any) -> bool:
    sizes = [OPEN if n is None else n for n in x.shape[1:]]
    return 2 <= len(x.shape) <= 5 and 0 not in sizes and prod(sizes) <= MOST and x.shape[-1] is not None


def random_graph(r: Random, seed: int, without: Collection[int]) -> keras.Model:
    number_layers_from(0)
    kinds = r.choices([*INPUTS], k=r.choice([1, 1, 1, 2]))
    inputs = [keras.Input(INPUTS[kind], name=f"in_{i}", dtype=dtype_of(kind)) for i, kind in enumerate(kinds)]
    growth = Growth([begun(r, kind, x) for kind, x in zip(kinds, inputs, strict=True)])
    for i in range(1, r.randint(3, 7)):
        if i not in without:
            growth.r = Random(f"{seed} {i}")
            number_layers_from(10 * i)
            growth.step()
    number_layers_from(100)
    return keras.Model(arranged(r, "in", inputs), outputs_of(r, growth))


def dtype_of(kind: str) -> str | None:
    return "int32" if "words" in kind else None


def begun(r: Random, kind: str, x: Any) -> Any:
    """A tensor of floats with channels that can be cut."""
    if "words" in kind:
        return L.Embedding(6, r.randint(3, 6), mask_zero=kind == "masked words")(x)
    return L.Dense(r.randint(3, 6), activation=r.choice(["linear", "relu"]))(x)


def outputs_of(r: Random, growth: Growth) -> Any:
    """One output that depends on all tensors, or several."""
    ends = growth.ends()
    if r.random() < 0.6:
        flat = [flattened(x) for x in ends]
        return L.Dense(4, **constrained(r, "kernel"))(L.Concatenate()(flat) if len(flat) > 1 else flat[0])
    ends = ends[-3:]
    if r.random() < 0.2:
        ends.append(r.choice(growth.tensors))
    heads = [L.Dense(r.randint(2, 4))(x) if r.random() < 0.6 else x for x in ends]
    return arranged(r, "out", heads)


def flattened(x: Any) -> Any:
    if None in x.shape[1:]:
        return getattr(L, f"GlobalMaxPooling{len(x.shape) - 2}D")()(x)
    return L.Flatten()(x) if len(x.shape) > 2 else x


def arranged(r: Random, name: str, tensors: list[Any]) -> Any:
    """Tensors as a model takes them: one alone, in a list or in a dict."""
    form = r.choice(["alone", "alone", "list", "dict"]) if len(tensors) == 1 else r.choice(["list", "list", "dict"])
    if form == "alone":
        return tensors[0]
    return tensors if form == "list" else {f"{name}_{i}": x for i, x in enumerate(tensors)}


def random_chain(r: Random, seed: int, without: Collection[int]) -> keras.Model:
    """A Sequential model."""
    kind = r.choice([*INPUTS])
    start = keras.Input(INPUTS[kind], dtype=dtype_of(kind))
    number_layers_from(0)
    first = L.Embedding(6, 4, mask_zero="masked" in kind) if "words" in kind else L.Dense(4)
    layers, shape = [start, first], (*start.shape, 4) if "words" in kind else (*start.shape[:-1], 4)
    for i in range(1, r.randint(2, 6)):
        number_layers_from(10 * i)
        own = Random(f"{seed} {i}")
        if i in without:
            continue
        try:
            more = chain(own, shape, 1)
            made = more[0].compute_output_shape(shape)
        except (ValueError, TypeError):
            continue
        if fits(keras.KerasTensor(made)):
            layers, shape = [*layers, *more], made
    return keras.Sequential([*layers, L.Dense(3)])


# --- training


def freeze(r: Random, model: keras.Model) -> None:
    for layer in r.sample(model.layers, min(2, len(model.layers))):
        layer.trainable = False


def apply_constraints(model: keras.Model) -> bool:
    """Changes weights as a step of training would that changes nothing else; whether there are any constraints."""
    bound = [variable for variable in model.trainable_variables if variable.constraint is not None]
    for variable in bound:
        variable.assign(variable.constraint(variable))
    return bool(bound)


def compiled(r: Random, model: keras.Model) -> None:
    """Compiles a model, its losses by the outputs' names or in other forms, and gives its optimizer some state."""
    names = getattr(model, "output_names", [model.layers[-1].name])
    loss: Any = r.choice([r.choice(LOSSES), {name: r.choice(LOSSES) for name in names}])
    if isinstance(loss, dict) and len(set(names)) < len(names):
        loss = "mse"
    if isinstance(loss, str) and len(names) > 1:
        loss = [loss] * len(names) if not isinstance(model.output, dict) else dict.fromkeys(names, loss)
    optimizer = r.choice(
        [keras.optimizers.SGD(0.01, momentum=0.9), keras.optimizers.Adam(), keras.optimizers.RMSprop()]
    )
    model.compile(optimizer, loss, run_eagerly=True, jit_compile=False)
    if r.random() < 0.8:
        optimizer.build(model.trainable_variables)
        rng = np.random.default_rng(r.randrange(1000))
        for variable in optimizer.variables:
            if variable.shape:
                variable.assign(rng.uniform(0.1, 1.0, variable.shape).astype("float32"))
        optimizer.iterations.assign(3)


def told(model: keras.Model) -> str:
    """A model in a line a layer: its class, name, config as far as it is short, and what it makes."""
    lines = [f"{type(model).__name__} {'compiled' if model.compiled else ''}".rstrip()]
    for layer in model.layers:
        made = [tuple(node.outputs[0].shape) for node in layer._inbound_nodes]
        lines.append(f"  {layer.name} ({type(layer).__name__}) -> {', '.join(map(str, made))}")
    return "\n".join(lines)
