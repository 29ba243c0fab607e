"""Edits of whole networks that keep what they compute: parts of them, deeper layers, other classes."""

import keras
import numpy as np

from helpers.judging import judge
from helpers.laws import TOLERANCE, VISIBLE, check_rebuilt_record, compute, deviation, sabotage
from helpers.running import model_of
from kerassurgery_fn import DeleteChannels, ExtractModel, ReplaceHead, analyse, explain
from kerassurgery_fn.errors import BadValue, NoHead, NothingLeft, PinnedChannels
from kerassurgery_fn.graph import is_input


def choose(names, count):
    """Some of several names, different ones for different networks, and the same ones each time."""
    return np.random.default_rng(len(names)).permutation(sorted(names))[:count].tolist()


def check_parts(before, path, inputs, truth):
    """What leads to a tensor; and, if nothing leads around it, what leads from it to the output, which then computes
    what the whole does."""
    try:
        first = ExtractModel(path)(before)
    except NothingLeft:
        return  # of a Sequential model that is only its input
    check_rebuilt_record(first)
    listed = ExtractModel([path])(before)
    assert (listed.record["class_name"], listed.weights) == ("Functional", first.weights)
    if "/" in path or len(truth) > 1 or sum(map(is_input, before.config["layers"])) > 1:
        return
    try:
        second = ExtractModel(ends(before), inputs=path)(before)
    except BadValue:
        return
    check_rebuilt_record(second)
    between = model_of(first)(inputs, training=False)
    assert deviation(compute(second, between), truth) < 5e-5


def ends(snapshot):
    """The name of the one tensor that a model makes."""
    outputs = snapshot.config.get("output_layers")
    if outputs is None:
        return snapshot.config["layers"][-1]["config"]["name"]
    name, call, number = outputs if isinstance(outputs[0], str) else outputs[0]
    record = next(one for one in snapshot.config["layers"] if one["name"] == name)
    return f"{name}:{call - (record['class_name'] == 'Functional')}:{number}"


def deepenable(snapshot):
    """The layers that can be deepened."""
    trace = analyse(snapshot).trace
    return {call.path for call in trace.calls if call.record["class_name"] in ("Dense", "Conv1D", "Conv2D")}


def check_deeper(before, plan, inputs, truth):
    made = plan(before)
    check_rebuilt_record(made)
    assert deviation(compute(made, inputs), truth) < 5e-5


def check_head(before, path, inputs, truth):
    """Other classes for a layer, if it is a head; all outputs but those that have its classes are what they were."""
    try:
        made = ReplaceHead(7, keep=[0, 0], layer=path)(before)
    except (NoHead, PinnedChannels):
        return
    check_rebuilt_record(made)
    found = compute(made, inputs)
    assert len(found) == len(truth)
    same = [
        one.shape == other.shape and np.allclose(one, other, 1e-4, 1e-5)
        for one, other in zip(found, truth, strict=True)
    ]
    assert not all(same)
    assert all(one.shape != other.shape or alike for one, other, alike in zip(found, truth, same, strict=True))


def first_wide_input(snapshot):
    """The name of the first input of floats with several channels; None if there is none."""
    for record in filter(is_input, snapshot.config["layers"]):
        config = record["config"]
        if "float" in config["dtype"] and len(config["batch_shape"]) > 1 and (config["batch_shape"][-1] or 0) > 1:
            return config["name"]
    return None


def check_fewer_bands(before, inputs):
    """An input loses its first channel, as do the inputs that are tied to it: the smaller model computes what the judge
    says, and a sabotaged one does not."""
    name = first_wide_input(before)
    edit = name and DeleteChannels(name, [0], allow_input_change=True)
    if not edit or explain(edit, before).warnings:
        return
    smaller = edit(before)
    shapes = [[tuple(each.shape) for each in model_of(snapshot).inputs] for snapshot in (before, smaller)]
    fewer = [
        array if old == new else np.delete(array, 0, -1)
        for array, old, new in zip(keras.tree.flatten(inputs), *shapes, strict=True)
    ]
    fewer = keras.tree.pack_sequence_as(inputs, fewer)
    truth = compute(judge(before, smaller), inputs)
    assert deviation(compute(smaller, fewer), truth) < TOLERANCE
    assert deviation(compute(sabotage(smaller), fewer), truth) > VISIBLE
