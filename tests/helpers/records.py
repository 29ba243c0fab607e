"""Models written by hand: records as `keras.saving.serialize_keras_object` gives them, without Keras.

    sequential("net", (None, 6), layer("Dense", "a", units=4), layer("Dense", "b", units=2))

    functional(
        "net",
        {"x": (None, 6)},
        call(layer("Dense", "a", units=4), "x"),
        call(layer("Dense", "b", units=4), "a"),
        call(layer("Add", "sum"), ["a", "b"]),
        outputs="sum",
    )

Tensors are named by their layer, or as (layer, call, output). Shapes are worked out for a few classes, see `SHAPES`;
for all others a call takes `out=`. That what is written here is what Keras writes is tested in test_records.py.
"""

from math import prod

import numpy as np

from kerassurgery_fn.graph import graph_of, name_of
from kerassurgery_fn.values.snapshot import Snapshot

# --- the parts of records


def thing(module, class_name, config, registered_name=None):
    return {"module": module, "class_name": class_name, "config": config, "registered_name": registered_name}


def initializer(class_name, **config):
    return thing("keras.initializers", class_name, config)


DTYPE = thing("keras", "DTypePolicy", {"name": "float32"})
GLOROT = initializer("GlorotUniform", seed=None, input_axes=None, output_axes=None)
ORTHOGONAL = initializer("Orthogonal", seed=None, gain=1.0)
UNIFORM = initializer("RandomUniform", seed=None, minval=-0.05, maxval=0.05)
ZEROS, ONES = initializer("Zeros"), initializer("Ones")

FREE = {
    **{f"{name}_regularizer": None for name in ("kernel", "bias", "activity")},
    **{f"{name}_constraint": None for name in ("kernel", "bias")},
}
AFFINE = {
    "activation": "linear", "use_bias": True, "kernel_initializer": GLOROT, "bias_initializer": ZEROS, **FREE,
}  # fmt: skip
SLIDING = {
    "kernel_size": [2, 2], "strides": [1, 1], "padding": "valid", "data_format": "channels_last",
    "dilation_rate": [1, 1],
}  # fmt: skip
RECURRENT = {
    "return_sequences": False, "return_state": False, "go_backwards": False, "stateful": False, "unroll": False,
    "zero_output_for_mask": False, **AFFINE, "activation": "tanh", "recurrent_initializer": ORTHOGONAL,
    "recurrent_regularizer": None, "recurrent_constraint": None, "dropout": 0.0, "recurrent_dropout": 0.0,
}  # fmt: skip

# What a config says beside name, trainable, dtype and what the test gives.
DEFAULTS = {
    "Dense": {**{k: v for k, v in AFFINE.items() if k != "activity_regularizer"}, "quantization_config": None},
    "Conv2D": {**SLIDING, "groups": 1, **AFFINE},
    "Conv2DTranspose": {**SLIDING, "output_padding": None, **AFFINE},
    "DepthwiseConv2D": {
        **SLIDING, "depth_multiplier": 1, "activation": "linear", "use_bias": True, "depthwise_initializer": GLOROT,
        "bias_initializer": ZEROS, "depthwise_regularizer": None, "bias_regularizer": None,
        "activity_regularizer": None, "depthwise_constraint": None, "bias_constraint": None,
    },
    "BatchNormalization": {
        "axis": -1, "momentum": 0.99, "epsilon": 0.001, "center": True, "scale": True, "beta_initializer": ZEROS,
        "gamma_initializer": ONES, "moving_mean_initializer": ZEROS, "moving_variance_initializer": ONES,
        "beta_regularizer": None, "gamma_regularizer": None, "beta_constraint": None, "gamma_constraint": None,
        "synchronized": False, "renorm": False, "renorm_clipping": None, "renorm_momentum": 0.99,
    },
    "LSTM": {**RECURRENT, "recurrent_activation": "sigmoid", "unit_forget_bias": True, "seed": None},
    "GRU": {**RECURRENT, "recurrent_activation": "sigmoid", "reset_after": True, "seed": None},
    "SimpleRNN": RECURRENT,
    "Embedding": {
        "embeddings_initializer": UNIFORM, "embeddings_regularizer": None, "activity_regularizer": None,
        "embeddings_constraint": None, "mask_zero": False, "quantization_config": None,
    },
    "Flatten": {"data_format": "channels_last"},
    "Concatenate": {"axis": -1},
    "Softmax": {"axis": -1},
    "Dropout": {"rate": 0.5, "seed": None, "noise_shape": None},
    "ReLU": {"max_value": None, "negative_slope": 0.0, "threshold": 0.0},
    "GlobalAveragePooling2D": {"data_format": "channels_last", "keepdims": False},
    "MaxPooling2D": {"pool_size": [2, 2], "padding": "valid", "strides": [2, 2], "data_format": "channels_last"},
}  # fmt: skip
UNBUILT = {"Reshape", "Activation", "ReLU", "Dropout", "GlobalAveragePooling2D", "MaxPooling2D", "Softmax", "Identity"}


def layer(class_name, name, *, module="keras.layers", registered_name=None, **config):
    """The record of a layer that is not yet called."""
    base = {"name": name, "trainable": True, "dtype": DTYPE}
    return thing(module, class_name, {**base, **DEFAULTS.get(class_name, {}), **config}, registered_name)


def operation(class_name, name, *, module="keras.src.ops.numpy", **config):
    """The record of an operation such as `ops.Multiply`."""
    return thing(module, class_name, {"name": name, **config}, class_name)


def input_layer(name, shape):
    facts = {"batch_shape": list(shape), "dtype": "float32", "sparse": False, "ragged": False}
    return thing("keras.layers", "InputLayer", {**facts, "name": name, "optional": False})


def tensor(name, shape, call=0, output=0):
    """A tensor in a call's arguments."""
    config = {"shape": list(shape), "dtype": "float32", "keras_history": [name, call, output]}
    return {"class_name": "__keras_tensor__", "config": config}


def constant(values):
    """An array in a call's arguments."""
    return {"class_name": "__numpy__", "config": {"value": np.asarray(values).tolist(), "dtype": "float32"}}


# --- models


class Model(dict):
    """The record of a model, and the shapes of its outputs beside it."""

    shapes: list


def sequential(name, shape, *layers):
    """The record of a built Sequential model; `shape` is that of its input."""
    records, shapes = [input_layer(f"{name}_input", shape)], [list(shape)]
    for record in layers:
        records.append(built(record, shapes[-1]))
        shapes += made_by(record, [shapes[-1]])[:1]
    config = {
        "name": name, "trainable": True, "dtype": DTYPE, "layers": records, "build_input_shape": list(shape),
    }  # fmt: skip
    made = Model(thing("keras", "Sequential", config))
    made["build_config"] = {"input_shape": list(shape)}
    made.shapes = [shapes[-1]]
    return made


def call(record, *args, out=None, **kwargs):
    """A call of a layer, or of the one with that name that an earlier call has brought in.

    Args:
        record: the layer's record, or its name at later calls.
        *args: lists, dicts, numbers, constants and names of tensors.
        out: the shape of what the call makes, or a list of shapes; left out where `SHAPES` knows.
        **kwargs: as args.
    """
    return record, args, kwargs, out


def in_order(config):
    """The layers of a Functional model's config in the order in which Keras writes them; those of no call are left
    out."""
    layers = {name_of(layer): layer for layer in config["layers"]}
    return [layers[key] for key in graph_of({"config": config}).listed]


def functional(name, inputs, *calls, outputs, feeds=None):
    """The record of a Functional model.

    Args:
        name: its name.
        inputs: name of each input -> its shape.
        *calls: what `call` gives, in order.
        outputs: names of tensors, in any structure.
        feeds: names of the inputs in any structure; left out, one input stands alone and several are a list.
    """
    records = {one: {**input_layer(one, shape), "name": one, "inbound_nodes": []} for one, shape in inputs.items()}
    shapes = {(one, 0, 0): list(shape) for one, shape in inputs.items()}
    called = {}
    for record, args, kwargs, out in calls:
        own = record if isinstance(record, str) else record["config"]["name"]
        given = [_leaf_shapes(arg, shapes) for arg in args]
        if not isinstance(record, str):
            called[own] = record
            records[own] = {**built(record, given[0] if given else None), "name": own, "inbound_nodes": []}
        nodes = records[own]["inbound_nodes"]
        made = made_by(called[own], _flat(given), out)
        shapes |= {(own, len(nodes), i): shape for i, shape in enumerate(made)}
        nodes.append({"args": _wire(list(args), shapes), "kwargs": _wire(kwargs, shapes)})
    feeds = feeds if feeds is not None else [*inputs] if len(inputs) > 1 else next(iter(inputs))
    config = {
        "name": name, "trainable": True, "layers": list(records.values()), "input_layers": _ends(feeds, records),
        "output_layers": _ends(outputs, records),
    }  # fmt: skip
    config["layers"] = in_order(config)
    made = Model(thing("keras.src.models.functional", "Functional", config, "Functional"))
    made["build_config"] = {"input_shape": None}
    made.shapes = [shapes[_port(one)] for one in _names(outputs)]
    return made


def built(record, shape):
    """The record of a layer that has been built for inputs of this shape or these shapes."""
    if "build_config" in record or record["class_name"] in UNBUILT or "keras.src.ops" in record["module"]:
        return record
    return {**record, "build_config": {"input_shape": shape}}


def _port(name):
    return (name, 0, 0) if isinstance(name, str) else name


def _is_name(tree):
    return isinstance(tree, (str, tuple))


def _names(tree):
    """The tensors that a structure names, dicts in order of their keys."""
    if _is_name(tree):
        return [tree]
    items = [tree[key] for key in sorted(tree)] if isinstance(tree, dict) else tree
    return [name for item in items for name in _names(item)]


def _wire(tree, shapes):
    """Arguments with a tensor in place of every name."""
    if isinstance(tree, dict) and "class_name" in tree:
        return tree
    if isinstance(tree, dict):
        return {key: _wire(item, shapes) for key, item in tree.items()}
    if isinstance(tree, list):
        return [_wire(item, shapes) for item in tree]
    return tensor(_port(tree)[0], shapes[_port(tree)], *_port(tree)[1:]) if _is_name(tree) else tree


def _leaf_shapes(tree, shapes):
    """The shapes of the tensors of one argument: one, or a list for a list."""
    if isinstance(tree, list):
        return [_leaf_shapes(item, shapes) for item in tree]
    if isinstance(tree, dict) and "class_name" not in tree:
        return [_leaf_shapes(tree[key], shapes) for key in sorted(tree)]
    return shapes[_port(tree)] if _is_name(tree) else None


def _flat(tree):
    """The shapes among nested lists of shapes."""
    if not isinstance(tree, list) or all(isinstance(n, (int, type(None))) for n in tree):
        return [tree]
    return [shape for item in tree for shape in _flat(item)]


def _ends(tree, records):
    """`input_layers` or `output_layers`: calls of Functional models are counted from one there."""
    if isinstance(tree, dict):
        return {key: _ends(item, records) for key, item in tree.items()}
    if isinstance(tree, list):
        return [_ends(item, records) for item in tree]
    name, node, index = _port(tree)
    return [name, node + (records[name]["class_name"] == "Functional"), index]


# --- shapes, for the classes that most tests use


def _convolved(config, shape):
    """Valid convolutions and pooling windows with strides of one."""
    window = config.get("kernel_size") or config["pool_size"]
    space = [(n - k) // s + 1 for n, k, s in zip(shape[1:-1], window, config["strides"], strict=True)]
    return [shape[0], *space, config.get("filters", shape[-1] * config.get("depth_multiplier", 1))]


def _run(config, shape, *_):
    return [*shape[:2], config["units"]] if config["return_sequences"] else [shape[0], config["units"]]


SHAPES = {
    "Dense": lambda config, x: [*x[:-1], config["units"]],
    "Conv2D": _convolved,
    "DepthwiseConv2D": _convolved,
    "MaxPooling2D": _convolved,
    "Flatten": lambda config, x: [x[0], prod(x[1:])],
    "Reshape": lambda config, x: [x[0], *config["target_shape"]],
    "GlobalAveragePooling2D": lambda config, x: [x[0], x[-1]],
    "Embedding": lambda config, x: [*x, config["output_dim"]],
    **dict.fromkeys(("LSTM", "GRU", "SimpleRNN"), _run),
    "Concatenate": lambda config, *xs: [*xs[0][:-1], sum(x[-1] for x in xs)],
    **dict.fromkeys(
        ("Add", "Multiply", "Subtract", "BatchNormalization", "ReLU", "Activation", "Dropout", "Softmax", "Identity"),
        lambda config, x, *_: list(x),
    ),
}


def made_by(record, given, out=None):
    """The shapes of what a call makes of tensors of the given shapes."""
    if out is not None:
        return [list(shape) for shape in (out if isinstance(out, list) else [out])]
    if isinstance(record, Model):
        return record.shapes
    return [SHAPES[record["class_name"]](record["config"], *given)]


# --- weights whose elements say where they come from


def numbers(*axes):
    """An array whose element at (i, j, ...) is made of the digits `axes[0][i]`, `axes[1][j]`, ...; digits below 64.

    An int stands for so many positions, a list names them: deleting channel 0 of [0, 1, 2] gives [1, 2].
    """
    digits = [np.arange(axis) if isinstance(axis, int) else np.asarray(axis, int) for axis in axes]
    total = np.zeros((), np.float32)
    for axis in digits:
        total = np.add.outer(total * 64, axis)
    return total.astype(np.float32)


def snapshot(record, weights=None, training=None):
    return Snapshot(record, weights or {}, training)
