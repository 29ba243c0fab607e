"""One exception for each mistake that a user can fix.

Every message names the thing, states the facts and shows the way out.
"""

from __future__ import annotations


class SurgeryError(ValueError):
    """The base class of all errors of this library. Nothing has been changed when it is raised."""


class InexactCut(UserWarning):
    """A deletion crosses a softmax or a normalisation over channels and changes the values of the other channels.

    `warnings.simplefilter("ignore", InexactCut)` hides the warning, `"error"` turns it into an error.
    """


class ClassNotKept(UserWarning):
    """A model or layer that is Python code is captured as the graph that it records; its class is not kept.

    `warnings.simplefilter("ignore", ClassNotKept)` hides the warning.
    """


class BudgetMissed(UserWarning):
    """A budget cannot be reached; the plan is the closest that can be reached."""


class UnknownLayer(SurgeryError):
    """No layer of the model has this name."""


class AmbiguousLayer(SurgeryError):
    """Several layers of nested models have this name; give the path of one layer."""


class UnknownNode(SurgeryError):
    """A node is not part of the model, or it is listed twice."""


class UnknownJob(SurgeryError):
    """A surgeon does not know this job, or an argument of the job is missing."""


class TakenNode(SurgeryError):
    """The node already has a job."""


class NoChannels(SurgeryError):
    """The layer creates no channels, or no channels of this kind."""


class ChannelOutOfRange(SurgeryError):
    """The layer has no channel with this index, or the mask or order does not fit its number of channels."""


class PinnedChannels(SurgeryError):
    """The channels cannot be deleted, moved or copied; the message gives the reasons."""


class PartialGroup(SurgeryError):
    """The selected channels cut through a head or a group, which can only be edited as a whole."""


class NothingLeft(SurgeryError):
    """The deletion would remove all channels where the model needs at least one."""


class NotIndependent(SurgeryError):
    """A layer was run to test whether it treats every channel independently, and it does not."""


class NotAGraph(SurgeryError):
    """The model has no graph to read: it is not built, it is subclassed, or the value is not a model."""


class NotASnapshot(SurgeryError):
    """The value is not a snapshot; the message says how to get one."""


class HiddenState(SurgeryError):
    """A layer has state that is neither in its config nor in its weights, so a rebuilt model would lose this state."""


class BrokenSnapshot(SurgeryError):
    """The snapshot is not valid: Keras could not rebuild a model from it."""


class BadData(SurgeryError):
    """The model cannot be run on this data."""


class WrongShape(SurgeryError):
    """The shape does not fit an input of the model."""


class BadFile(SurgeryError, OSError):
    """The file cannot be read or written; the message gives the reason of the operating system."""


class NotEncodable(SurgeryError):
    """A value cannot be written in a document."""


class BadDocument(SurgeryError):
    """The document is not valid; the message names the place."""


class UnknownVersion(BadDocument):
    """The document has a version that this library cannot read."""


class UnknownEdit(BadDocument):
    """The document has an edit that is not registered."""


class OtherModel(SurgeryError):
    """The plan or difference was made for another model."""


class CannotWiden(SurgeryError):
    """The layer cannot get more channels without a change of the model's outputs."""


class MisfitTensor(SurgeryError):
    """A layer would be called on a tensor that it cannot take, or on a tensor of unknown shape."""


class NotALayer(SurgeryError):
    """The value is not a layer."""


class NameTaken(SurgeryError):
    """Another layer of the model has this name, or the name is not valid."""


class UnknownCall(SurgeryError):
    """The layer has no such call, or the edit cannot work on this kind of call."""


class UnknownField(SurgeryError):
    """The layer's config, or the record of a class, has no such field; or another edit is responsible for the field."""


class BadValue(SurgeryError):
    """The value is not valid for an argument, or for a field of an edit or of a layer's config."""


class NotFoldable(SurgeryError):
    """The normalisation cannot be folded into the layer before it; the message gives the reason."""


class NoHead(SurgeryError):
    """The layer is not a head: its channels are not the classes of an output, or other layers use them, too."""


class NoBlock(SurgeryError):
    """The layer is not part of a residual block."""


class NoBatchNorm(SurgeryError):
    """There is no batch normalisation whose moving statistics could be estimated."""


class UnknownCriterion(SurgeryError):
    """There is no criterion of this name; the message lists the names."""


class UnknownGroup(SurgeryError, KeyError):
    """No coupled group has this name."""

    __str__ = SurgeryError.__str__  # a KeyError prints the repr of its message


class MissingData(SurgeryError):
    """The criterion needs data, or statistics of data, and has none."""


class BadScores(SurgeryError):
    """Scores are NaN or infinite, or belong to another model."""


class UnreachableBudget(SurgeryError):
    """The budget cannot be reached; the message names the groups that hold most of the cost, and why."""
