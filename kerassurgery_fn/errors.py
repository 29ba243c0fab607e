"""One exception for each mistake that a user can fix.

Every message names the thing, states the facts and shows the way out.
"""

from __future__ import annotations


class SurgeryError(ValueError):
    """Anything that surgery refuses to do. Nothing has been changed when it is raised."""


class InexactCut(UserWarning):
    """A cut across a softmax or a normalisation over channels, after which the rest of the model does not compute just
    what it did. No error: `warnings.simplefilter("ignore", InexactCut)` switches it off, "error" makes it one."""


class UnknownLayer(SurgeryError):
    """A name that no layer of the model has."""


class AmbiguousLayer(SurgeryError):
    """A bare name that several layers of nested models share."""


class UnknownNode(SurgeryError):
    """A node of a layer that is not part of the model, or one that is named twice."""


class UnknownJob(SurgeryError):
    """A job that a surgeon cannot do, or one without what it needs."""


class TakenNode(SurgeryError):
    """A second job for a node that has one."""


class NoChannels(SurgeryError):
    """A layer that makes no channels of its own, or none of the kind asked for."""


class ChannelOutOfRange(SurgeryError):
    """A channel index beyond the channels that there are."""


class PinnedChannels(SurgeryError):
    """Channels that cannot be cut, and why."""


class PartialLines(SurgeryError):
    """Positions of a grid (heads, groups) that do not make up whole lines of it."""


class NothingLeft(SurgeryError):
    """A deletion that would leave no channel where the model needs one."""


class NotIndependent(SurgeryError):
    """A layer that was run to see whether it treats every channel alone, and does not."""


class NotAGraph(SurgeryError):
    """A model that has no config to read: not built, or subclassed without a graph."""


class NotASnapshot(SurgeryError):
    """Something given for a snapshot that is none; the message says how to get one."""


class HiddenState(SurgeryError):
    """State of a layer that is in neither its config nor its weights, so that a rebuilt model would not have it."""


class BrokenSnapshot(SurgeryError):
    """A snapshot that Keras cannot rebuild."""


class BadData(SurgeryError):
    """Data on which a model cannot be run."""


class WrongShape(SurgeryError):
    """A shape that does not fit a model's input."""


class BadFile(SurgeryError, OSError):
    """A path at which no file can be read or written, and why."""


class NotEncodable(SurgeryError):
    """A value that has no form in a document."""


class BadDocument(SurgeryError):
    """A document that is not what this library writes; the message names the place in it."""


class UnknownVersion(BadDocument):
    """A document of a version that this library does not know."""


class UnknownEdit(BadDocument):
    """A document with an edit that this library does not know."""


class OtherModel(SurgeryError):
    """A plan or a difference that was made for another model."""


class CannotWiden(SurgeryError):
    """Channels of which there cannot be more without a change of what the model computes."""


class MisfitTensor(SurgeryError):
    """A layer that would be called on a tensor that it cannot take, or of which nothing is known."""


class NotALayer(SurgeryError):
    """Something given for a layer that is none."""


class NameTaken(SurgeryError):
    """A name that another layer of the model has, or that no layer can have."""


class UnknownCall(SurgeryError):
    """A call that a layer does not have, or one of a kind that an edit cannot work on."""


class UnknownField(SurgeryError):
    """A field that a layer's config does not have, or that another edit changes."""


class BadValue(SurgeryError):
    """A value that a field of an edit or of a layer's config cannot have."""


class NotFoldable(SurgeryError):
    """A normalisation that cannot be folded into a layer before it, and why."""


class NoHead(SurgeryError):
    """A layer whose channels are not the classes of an output, or not that alone."""
