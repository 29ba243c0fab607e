"""Every problem of a model file: members, config, and the weights against the config.

The file is read array by array, and arrays a megabyte at a time, so that a large file takes little memory.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from kerassurgery_fn.analysis.channel_flow import analyse
from kerassurgery_fn.archive.archive_members import CONFIG, METADATA, WEIGHTS
from kerassurgery_fn.archive.custom_groups import add_weight_groups
from kerassurgery_fn.archive.h5_weights import WeightFile, open_weights
from kerassurgery_fn.archive.json_limits import parse_json
from kerassurgery_fn.archive.layer_groups import Arrays, LayerGroup, layer_groups
from kerassurgery_fn.archive.model_sources import open_members
from kerassurgery_fn.archive.saved_config import to_record
from kerassurgery_fn.archive.saved_training import read_training
from kerassurgery_fn.archive.saved_weights import add_vocabularies, read_layer
from kerassurgery_fn.archive.weight_checks import expected_weights, shape_of, surplus_groups
from kerassurgery_fn.errors import SurgeryError
from kerassurgery_fn.graph import Record
from kerassurgery_fn.rules.config_values import quantized
from kerassurgery_fn.rules.dtypes import is_float, variable_dtype
from kerassurgery_fn.rules.findings import Weight
from kerassurgery_fn.rules.layer import STATE
from kerassurgery_fn.values.mapped_arrays import blocks
from kerassurgery_fn.values.snapshot import Snapshot

ERROR, WARNING = "error", "warning"
AT_FAULT = (LookupError, TypeError, ValueError, AttributeError)  # what a config with other fields than Keras' raises


class Problem(NamedTuple):
    """A problem of a model file.

    - `severity`: "error" if the file cannot be loaded, otherwise "warning";
    - `place`: a layer path, a group of the weights, or a member of the archive;
    - `message`: the problem, in words.
    """

    severity: str
    place: str
    message: str


def find_problems(path: str) -> list[Problem]:
    """All problems of a `.keras` file, or of its folder form."""
    try:
        with open_members(path) as members:
            found = list(_of_members(members))
            return [problem._replace(message=" ".join(problem.message.splitlines())) for problem in found]
    except SurgeryError as error:
        return [Problem(ERROR, path, _line(error))]


def _of_members(members: Any) -> Iterator[Problem]:
    """The problems of the members, one after the other; the weights can be compared if there is a config."""
    record = config = None
    for name in (METADATA, CONFIG):
        try:
            tree = parse_json(members.read(name), f"{members.path}: {name}")
            if name == CONFIG:
                config, record = tree, to_record(tree, name)
        except (SurgeryError, *AT_FAULT) as error:
            yield Problem(ERROR, name, _line(error))
    try:
        with members.open(WEIGHTS, check=True):
            pass
    except SurgeryError as error:
        yield Problem(ERROR, WEIGHTS, _line(error))
    if record is None or config is None:
        return
    try:
        with members.open(WEIGHTS, check=False) as region, open_weights([region], WEIGHTS, lazy=True) as weights:
            add_vocabularies(record, members, weights)
            add_weight_groups(record, weights)
            add_weight_groups(config, weights)
            yield from _of_weights(record, config, weights)
    except (SurgeryError, *AT_FAULT) as error:
        yield Problem(ERROR, WEIGHTS, _line(error))


def _of_weights(record: Record, config: Record, weights: WeightFile) -> Iterator[Problem]:
    arrays: dict[str, Arrays] = {}
    for group in surplus_groups(config, weights):
        yield Problem(ERROR, group, "the file has weights here, and the config has no layer for them")
    for layer in layer_groups(config):
        try:
            arrays[layer.path] = read_layer(layer, weights)
        except SurgeryError as error:
            yield Problem(ERROR, layer.path, _line(error))
    yield from _of_unknown(record, arrays)
    misfits = False
    for layer, expected in expected_weights(record):
        if layer.path in arrays:
            for problem in _of_layer(layer, expected, arrays[layer.path]):
                misfits |= problem.severity == ERROR
                yield problem
    for path, layer_arrays in arrays.items():
        for index, array in enumerate(layer_arrays):
            if not all(_is_finite(block) for _, block in blocks(array)):
                yield Problem(WARNING, path, f"weight {index} has elements that are NaN or infinite")
    if not misfits:
        yield from _of_training(Snapshot(record, {path: found for path, found in arrays.items() if found}), weights)


def _of_unknown(record: Record, arrays: dict[str, Arrays]) -> Iterator[Problem]:
    """Layers whose weights cannot be compared: they have no rule, or their config contradicts that of other layers."""
    for path, reason in analyse(Snapshot(record, {})).opaque.items():
        if arrays.get(path):
            yield Problem(WARNING, path, f"its weights are not compared with the config: the layer {reason}")


def _of_layer(layer: LayerGroup, expected: list[Weight], arrays: Arrays) -> Iterator[Problem]:
    """Missing and superfluous weights, and weights of another shape or dtype than the config says."""
    dtype = layer.record["config"].get("dtype")
    for index, weight in enumerate(expected):
        name, shape = f"weight {index} ({weight.name})", shape_of(weight)
        if index >= len(arrays):
            yield Problem(ERROR, layer.path, f"{name} is missing; by the config its shape is {shape}")
        elif arrays[index].shape != shape:
            yield Problem(
                ERROR, layer.path, f"{name} has the shape {arrays[index].shape}, and by the config it is {shape}"
            )
        elif dtype is not None and not quantized(dtype) and weight.name not in STATE:
            yield from _of_dtype(layer.path, name, arrays[index].dtype.name, variable_dtype(dtype))
    for index in range(len(expected), len(arrays)):
        yield Problem(
            ERROR,
            layer.path,
            f"weight {index} of shape {arrays[index].shape} is superfluous: the config has none for it",
        )


def _of_dtype(path: str, name: str, found: str, wanted: str) -> Iterator[Problem]:
    """A wrong dtype. It is a warning for floats of another precision, which Keras converts, and otherwise an error."""
    if found != wanted and is_float(wanted):
        message = f"{name} is {found}, and by the config it is {wanted}"
        yield (
            Problem(WARNING, path, f"{message}; Keras converts it")
            if is_float(found)
            else Problem(ERROR, path, message)
        )


def _of_training(snapshot: Snapshot, weights: WeightFile) -> Iterator[Problem]:
    """What the reader warns of: a state of the optimizer that does not belong to these weights."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        read_training(snapshot, weights)
    for warning in caught:
        yield Problem(WARNING, "optimizer", str(warning.message))


def _is_finite(array: np.ndarray) -> bool:
    return array.dtype.kind in "iub" or bool(np.isfinite(array).all())


def _line(error: Exception) -> str:
    text = (
        str(error) if isinstance(error, SurgeryError) else f"not as Keras writes it ({type(error).__name__}: {error})"
    )
    return " ".join(text.split())
