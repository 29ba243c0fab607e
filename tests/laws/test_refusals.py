"""What is no number, layer or edit is refused where it is given, as something that a user can fix."""

import numpy as np
import pytest

from helpers.records import call, functional, layer, numbers, snapshot
from kerassurgery_fn.documents.plan_files import decode, encode
from kerassurgery_fn.edits import (
    ConvertDtype,
    DeleteChannels,
    DeleteLayer,
    ExtractModel,
    FoldBatchNorm,
    InsertLayer,
    ReorderChannels,
    ReplaceHead,
    SetConfig,
    SetTrainable,
    WidenChannels,
)
from kerassurgery_fn.edits.plan import Plan
from kerassurgery_fn.errors import BadDocument, BadValue, ChannelOutOfRange, NameTaken, SurgeryError, UnknownCall
from kerassurgery_fn.pruning.apoz_scores import high_apoz
from kerassurgery_fn.report.explanation import explain

NET = snapshot(
    functional(
        "net", {"x": (None, 3)},
        call(layer("Dense", "a", units=4), "x"),
        call(layer("Dropout", "drop"), "a", training=False),
        call(layer("Dense", "b", units=2), "drop"),
        outputs="b",
    ),
    {"a": (numbers(3, 4), numbers(4)), "b": (numbers(4, 2), numbers(2))},
)  # fmt: skip
RELU = layer("ReLU", "relu")

REFUSED = {
    "calls that are no numbers": (lambda: DeleteLayer("drop", calls="a"), UnknownCall, "calls= takes numbers"),
    "calls that are a truth": (lambda: DeleteLayer("drop", calls=True), UnknownCall, "not True"),
    "an operand that is no number": (lambda: InsertLayer(RELU, before="b", operand="a"), BadValue, "operand="),
    "an operand after a layer": (lambda: InsertLayer(RELU, after="a", operand=0), BadValue, "a layer in after="),
    "channels in a heap": (lambda: DeleteChannels("a", [[0], [1, 2]]), ChannelOutOfRange, "indices or a boolean mask"),
    "a mask for an order": (lambda: ReorderChannels("a", [True] * 4), ChannelOutOfRange, "an order is"),
    "noise that is no number": (lambda: WidenChannels("a", 9, noise="a"), BadValue, "noise is a number"),
    "noise below nothing": (lambda: WidenChannels("a", 9, noise=-1), BadValue, "from 0 on, not -1"),
    "noise that is not a number": (lambda: WidenChannels("a", 9, noise=np.nan), BadValue, "not nan"),
    "a seed that is no number": (lambda: WidenChannels("a", 9, seed="a"), BadValue, "a seed is an integer"),
    "no seed": (lambda: WidenChannels("a", 9, seed=None), BadValue, "not None"),
    "a negative seed": (lambda: ReplaceHead(3, seed=-1), BadValue, "not -1"),
    "one class for several": (lambda: ReplaceHead(3, keep=1), ChannelOutOfRange, "keep= takes numbers"),
    "no tensors by name": (lambda: ExtractModel({}), BadValue, "is not a tensor"),
    "a tensor under a number": (lambda: ExtractModel({1: "a"}), BadValue, "strings, not 1"),
    "an input with a slash": (lambda: ExtractModel("b", inputs={"a/b": "drop"})(NET), NameTaken, "slash"),
    "a flag that is none": (lambda: SetTrainable("a", "no"), BadValue, "True or False, not 'no'"),
    "a dtype that is none": (lambda: ConvertDtype(np.dtype("int8")), BadValue, "cannot be converted to"),
    "a lambda as data": (
        lambda: SetConfig("a", activation=lambda x: x),
        BadValue,
        "a lambda cannot be written",
    ),
    "a plan of a list": (lambda: Plan([DeleteLayer("drop")]), SurgeryError, r"is not an edit.*Plan\(\*edits\)"),
    "a plan of a class": (lambda: Plan(FoldBatchNorm), SurgeryError, "is not an edit"),
    "nothing to explain": (lambda: explain(None, NET), SurgeryError, "None is not an edit"),
    "apoz of no channels": (lambda: high_apoz(None), SurgeryError, "a number for each channel"),
    "apoz in two dimensions": (lambda: high_apoz(np.zeros((2, 2))), SurgeryError, "one-dimensional"),
    "apoz that is not a number": (lambda: high_apoz([0.1, np.nan]), SurgeryError, "a number for each channel"),
    "a cutoff that is a string": (
        lambda: high_apoz([0.1], cutoff_std="a"),
        SurgeryError,
        "cutoff_std must be a number",
    ),
}


@pytest.mark.parametrize("given, error, words", REFUSED.values(), ids=REFUSED)
def test_invalid_arguments_are_refused(given, error, words):
    with pytest.raises(error, match=words):
        given()


TAKEN = {
    "calls of numpy": (DeleteLayer("drop", calls=np.array([0])), DeleteLayer("drop", calls=[0])),
    "calls of a range": (DeleteLayer("drop", calls=range(1)), DeleteLayer("drop", calls=0)),
    "an operand of numpy": (
        InsertLayer(RELU, before="b", operand=np.int64(0)), InsertLayer(RELU, before="b", operand=0),
    ),
    "a seed of numpy": (WidenChannels("a", 9, seed=np.uint8(3)), WidenChannels("a", 9, seed=3)),
    "a dtype of numpy": (ConvertDtype(np.float16), ConvertDtype("float16")),
    "a flag of numpy": (SetTrainable("a", np.False_), SetTrainable("a", False)),
    "a rate of numpy": (SetConfig("drop", rate=np.float32(0.5)), SetConfig("drop", rate=0.5)),
}  # fmt: skip


@pytest.mark.parametrize("given, meant", TAKEN.values(), ids=TAKEN)
def test_numpy_numbers_are_accepted(given, meant):
    assert given == meant
    assert repr(given) == repr(meant)


def test_a_document_is_validated_like_an_edit():
    data = encode(WidenChannels("a", 9))
    with pytest.raises(BadDocument, match="a seed is an integer from 0 on, not -1"):
        decode({**data, "plan": {**data["plan"], "seed": -1}})
