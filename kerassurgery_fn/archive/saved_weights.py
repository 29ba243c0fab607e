"""The weights of all layers of a model, read from and written to a weight file."""

from __future__ import annotations

from typing import Any

from kerassurgery_fn.archive.adapted_layers import from_saved, to_saved
from kerassurgery_fn.archive.archive_members import ASSETS, Members
from kerassurgery_fn.archive.custom_groups import read_groups
from kerassurgery_fn.archive.folder_members import FolderMembers
from kerassurgery_fn.archive.h5_weights import WeightFile, WeightWriter
from kerassurgery_fn.archive.layer_groups import Arrays, LayerGroup, groups_of_members, layer_groups, split_arrays
from kerassurgery_fn.archive.saved_vocabularies import has_vocabulary, lookup_groups, saved_idf_weights, with_vocabulary
from kerassurgery_fn.errors import BadFile, BrokenSnapshot
from kerassurgery_fn.graph import WEIGHT_GROUPS, name_of
from kerassurgery_fn.rules.weight_groups import weight_groups
from kerassurgery_fn.values.snapshot import Snapshot

IDF_WEIGHTS = "vars/idf_weights"


def read_layers(config: Any, weights: WeightFile) -> dict[str, Arrays]:
    """Layer path -> arrays in the order of `get_weights()`, for the saved config of a model.

    A layer that belongs to two models is written once, at its first place; the config marks it.
    """
    by_path: dict[str, Arrays] = {}
    first: dict[str, Arrays] = {}
    for layer in layer_groups(config):
        if layer.identity not in first:
            first[layer.identity] = read_layer(layer, weights)
        if first[layer.identity]:
            by_path[layer.path] = first[layer.identity]
    return by_path


def read_layer(layer: LayerGroup, weights: WeightFile) -> Arrays:
    """The arrays of a layer in the order of `get_weights()`: its own, then those of its sublayers.

    Raises:
        BadFile: the layer has sublayers of which the order is not known.
    """
    if has_vocabulary(layer.record):  # its table is no weight
        return ()
    if WEIGHT_GROUPS in layer.record:
        return read_groups(layer, weights)
    sublayers = weight_groups(layer.record).sublayers
    _refuse_unlisted(layer, weights, {sublayer.group.split("/")[0] for sublayer in sublayers})
    arrays = from_saved(layer, weights.arrays(layer.group))
    for sublayer in sublayers:
        inner = LayerGroup(layer.path, f"{layer.group}/{sublayer.group}", sublayer.record)
        arrays += read_layer(inner, weights)[sublayer.shared :]
    return arrays


def _refuse_unlisted(layer: LayerGroup, weights: WeightFile, listed: set[str]) -> None:
    """Raises BadFile if a layer has weights in sublayers that are not listed: a file does not say their order."""
    if unlisted := [name for name in weights.subgroups(layer.group) if name not in listed]:
        raise BadFile(
            f"layer {layer.path!r} ({layer.record['class_name']}) has weights in sublayers ({', '.join(unlisted[:4])}) "
            "whose order is not known without its class; load the file with Keras and capture the model"
        )


def add_vocabularies(record: Any, members: Members | FolderMembers, weights: WeightFile) -> None:
    """Adds to the config of each lookup layer the vocabulary from its asset file, in place.

    Raises:
        BadFile: a vocabulary is not text.
    """
    for layer in layer_groups(record):
        name = f"{ASSETS}/{layer.group}/vocabulary.txt"
        if not has_vocabulary(layer.record) or layer.record["config"].get("vocabulary") or name not in members.names:
            continue
        try:
            text = members.read(name).decode()
        except UnicodeDecodeError as error:
            raise BadFile(f"{members.path}: {name} is no text in UTF-8: {error}") from None
        idf = f"{layer.group}/{IDF_WEIGHTS}"
        config = with_vocabulary(layer.record, text, weights.array(idf) if weights.has(idf) else None)
        layer.record["config"] = config  # type: ignore[index]


def write_layers(writer: WeightWriter, snapshot: Snapshot) -> None:
    """Writes the arrays of all layers of a snapshot, and the names of layers as Keras does.

    Raises:
        BrokenSnapshot: a layer has no weights yet, or other weights than its config says.
    """
    written = set()
    for layer in layer_groups(snapshot.record):
        written.add(layer.path)
        _write_layer(writer, layer, snapshot)
    for group, record in groups_of_members(snapshot.record):
        writer.file.require_group(f"{group}/vars".lstrip("/")).attrs["name"] = name_of(record)
    if unknown := snapshot.weights.keys() - written:
        raise BrokenSnapshot(f"the snapshot has weights of {min(unknown)!r}, and its config has no such layer")


def _write_layer(writer: WeightWriter, layer: LayerGroup, snapshot: Snapshot) -> None:
    arrays = snapshot.weights.get(layer.path)
    if arrays == ():
        raise BrokenSnapshot(
            f"layer {layer.path!r} has no weights yet: Keras draws them; write capture(rebuild(snapshot)) instead"
        )
    for part, part_arrays in split_arrays(layer, arrays) if arrays else ():
        if part_arrays:
            writer.write(part.group, to_saved(part, part_arrays))
    if has_vocabulary(layer.record) and (idf_weights := saved_idf_weights(layer.record)) is not None:
        for group in lookup_groups(layer):
            writer.file[f"{group}/{IDF_WEIGHTS}"] = idf_weights
