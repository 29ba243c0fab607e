"""Documents that somebody has changed by hand: every leaf of plans and differences deleted or replaced in turn.

Each is taken, or refused by a SurgeryError, when it is decoded or when it is used; nothing else is raised.
"""

import copy
import json
import random

import numpy as np
import pytest

from helpers.records import call, functional, layer, numbers, sequential, snapshot
from kerassurgery_fn.analysis.coupled_groups import groups
from kerassurgery_fn.analysis.layer_costs import cost
from kerassurgery_fn.differences import decode_diff, diff, encode_diff, patch
from kerassurgery_fn.documents.plan_files import decode, encode
from kerassurgery_fn.documents.preconditions import made_for
from kerassurgery_fn.edits import DeleteChannels, FoldBatchNorm, InsertLayer, KeepChannels, ReplaceLayer, WidenChannels
from kerassurgery_fn.edits.plan import Plan
from kerassurgery_fn.edits.steps.indices import Masked
from kerassurgery_fn.errors import BadDocument, ChannelOutOfRange, OtherModel, SurgeryError
from kerassurgery_fn.values.snapshot import Snapshot

NET = snapshot(
    functional(
        "net", {"x": (None, 6, 6, 3)},
        call(layer("Conv2D", "c", filters=4), "x"),
        call(layer("BatchNormalization", "bn"), "c"),
        call(layer("GlobalAveragePooling2D", "g"), "bn"),
        call(layer("Dense", "d", units=2), "g"),
        outputs="d",
    ),
    {
        "c": (numbers(2, 2, 3, 4), numbers(4)), "bn": tuple(numbers(4) for _ in range(4)),
        "d": (numbers(4, 2), numbers(2)),
    },
)  # fmt: skip
DENSE = Snapshot(layer("Dense", "n", units=4), {"": (numbers(4, 4), numbers(4))})
INNER = Snapshot(sequential("s", (None, 4), layer("Dense", "i", units=2)), {"i": (numbers(4, 2), numbers(2))})
ABSENT = object()
OTHERS = [ABSENT, None, 3, -1, 0.5, True, "x", [], [1], {}, {"a": 1}, [[1]]]

PLANS = {
    "a layer": InsertLayer(DENSE, after="g"),
    "a layer with lists in its config": InsertLayer(layer("Conv2D", "n", filters=4), after="c"),
    "a model": ReplaceLayer("d", INNER),
    "a mask": DeleteChannels("c", [True, False, False, False]),
    "a plan for a model": made_for(Plan(DeleteChannels("c", [0]), FoldBatchNorm()), NET, weights=True),
}
RESULTS = {
    "a layer": InsertLayer(DENSE, after="g")(NET),
    "a cut": DeleteChannels("c", [0])(NET),
    "copies": WidenChannels("c", 6)(NET),
    "other values": FoldBatchNorm()(NET),
}


def places(node, place=()):
    """Every place in a document except its root."""
    if place:
        yield place
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, item in items:
        yield from places(item, (*place, key))


def changed(document, place, value):
    """A copy of a document with another value at a place, or without the value."""
    copied = copy.deepcopy(document)
    parent = copied
    for key in place[:-1]:
        parent = parent[key]
    if value is ABSENT:
        del parent[place[-1]]
    else:
        parent[place[-1]] = value
    return copied


def crashes(document, use, seed):
    """One random change at each place: the changes after which an error is raised that is not a SurgeryError."""
    draw, found = random.Random(seed), []
    for place in places(document):
        for value in draw.sample(OTHERS, 1):
            try:
                use(changed(document, place, value))
            except SurgeryError:
                continue
            except Exception as error:
                found.append((place, value, repr(error)[:80]))
    return found


def as_json(data):
    return json.loads(json.dumps(data))


@pytest.mark.usefixtures("lenient_rules")
@pytest.mark.parametrize("edit", PLANS.values(), ids=PLANS)
def test_a_modified_plan_loads_or_raises_a_named_error(edit):
    assert isinstance(decode(as_json(encode(edit)))(NET), Snapshot)
    assert crashes(as_json(encode(edit)), lambda data: decode(data)(NET), seed=1) == []


def used(data):
    """Decodes, prints and applies a difference, and analyses the result."""
    difference = decode_diff(data)
    str(difference)
    patched = patch(NET, difference, check=False)
    cost(patched), groups(patched)


@pytest.mark.usefixtures("lenient_rules")
@pytest.mark.parametrize("result", RESULTS.values(), ids=RESULTS)
def test_a_modified_difference_loads_or_raises_a_named_error(result):
    assert patch(NET, decode_diff(as_json(encode_diff(diff(NET, result))))) == result
    assert crashes(as_json(encode_diff(diff(NET, result))), used, seed=2) == []


RECORD = ("plan", "layer", "record")
REFUSED = {
    "no name": ((*RECORD, "config", "name"), ABSENT, r"\$\.plan\.layer\.record\.config: 'name' is a required"),
    "no config": ((*RECORD, "config"), ABSENT, r"\$\.plan\.layer\.record: 'config' is a required"),
    "a class that is a number": ((*RECORD, "class_name"), 3, r"\$\.plan\.layer\.record\.class_name: 3 is not of type"),
    "a policy that is a number": ((*RECORD, "config", "dtype"), 5, r"\$\.plan\.layer\.record\.config\.dtype: 5 is not"),
    "a module that is a number": ((*RECORD, "module"), 7, r"\$\.plan\.layer\.record\.module: 7 is not of type"),
}


@pytest.mark.parametrize("place, value, words", REFUSED.values(), ids=REFUSED)
def test_an_invalid_record_raises_and_the_message_names_its_place(place, value, words):
    with pytest.raises(BadDocument, match=words):
        decode(changed(as_json(encode(InsertLayer(DENSE, after="g"))), place, value))


def test_an_invalid_record_in_a_difference_or_nested_model_raises():
    data = as_json(encode_diff(diff(NET, RESULTS["a layer"])))
    with pytest.raises(BadDocument, match=r"\$\.diff\.added\.n.*: 'class_name' is a required"):
        decode_diff(changed(data, ("diff", "added", "n", "$json", "class_name"), ABSENT))
    data = as_json(encode(ReplaceLayer("d", INNER)))
    place = ("plan", "new", "record", "config", "$json", "layers", 1, "class_name")
    with pytest.raises(BadDocument, match=r"layers\[1\]\.class_name: 3 is not of type 'string'"):
        decode(changed(data, place, 3))


# --- masks


@pytest.mark.parametrize("cls", [DeleteChannels, KeepChannels])
def test_a_mask_keeps_its_length_in_a_document(cls):
    edit = cls("c", np.array([True, False, True, False]))
    again = decode(as_json(encode(edit)))
    assert again == edit
    assert again(NET) == edit(NET) == cls("c", [0, 2])(NET)
    for wrong in ([True, False, True], [True, False, True, False, False]):
        with pytest.raises(ChannelOutOfRange, match=f"'c' has 4 channels, and the mask is for {len(wrong)}"):
            decode(as_json(encode(cls("c", wrong))))(NET)


def test_a_mask_keeps_its_length_in_an_at_once_plan():
    edit = decode(as_json(encode(Plan.at_once(FoldBatchNorm(), DeleteChannels("c", [True, False, False])))))
    with pytest.raises(ChannelOutOfRange, match="the mask is for 3"):
        edit(NET)


@pytest.mark.parametrize("mask", [{"of": 4, "at": [1, 0]}, {"of": 4, "at": [1, 1]}, {"of": 2, "at": [2]}])
def test_an_invalid_mask_raises(mask):
    data = as_json(encode(DeleteChannels("c", [True, False, False, False])))
    assert data["plan"]["channels"]["c"] == {"$mask": {"of": 4, "at": [0]}}
    with pytest.raises(BadDocument, match=r"\$\.plan\.channels\.c: a mask of"):
        decode(changed(data, ("plan", "channels", "c", "$mask"), mask))


def test_equality_and_copies_of_masks_include_the_length():
    mask = Masked.at([0], 3)
    assert copy.deepcopy(mask).of == 3


# --- positions

PICKS = {
    "out of range": ([99, 98, 97], BadDocument, r"\$\.diff\.picks\[0\].*positions must be from 0 to 3"),
    "negative": ([-2, 1, 2], BadDocument, "positions must be from 0"),
    "from nowhere": ([-1, 2, 3], OtherModel, "has new positions without values"),
    "twice": ([1, 1, 2], OtherModel, "is not the new model of the difference"),
    "in another order": ([3, 2, 1], OtherModel, "is not the new model of the difference"),
    "bits that are too few": ("", BadDocument, "has bits for 0 positions instead of 4"),
    "floats": ([0.5, 1, 2], BadDocument, r"\$\.diff\.picks\[0\]\.kept"),
}


@pytest.mark.parametrize("kept, error, words", PICKS.values(), ids=PICKS)
def test_invalid_positions_in_a_difference_raise(kept, error, words):
    data = as_json(encode_diff(diff(NET, RESULTS["a cut"])))
    with pytest.raises(error, match=words):
        patch(NET, decode_diff(changed(data, ("diff", "picks", 0, "kept"), kept)))


def test_new_elements_of_another_dtype_raise():
    weights = {**NET.weights, "d": (NET.weights["d"][0].copy(), NET.weights["d"][1])}
    weights["d"][0][0, 0] = 7
    data = as_json(encode_diff(diff(NET, Snapshot(NET.record, weights))))
    place = ("diff", "weights", "d", 0, "values", "$array")
    assert data["diff"]["weights"]["d"][0]["values"]["$array"]["shape"] == [1]
    other = {"dtype": "int32", "shape": [1], "base64": "AAAAAA=="}
    with pytest.raises(OtherModel, match="1 element of dtype int32 for 1 element of dtype float32"):
        patch(NET, decode_diff(changed(data, place, other)))
