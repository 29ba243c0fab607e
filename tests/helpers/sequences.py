"""Random deletions one after the other, each beside the same deletion of a newly analysed model."""

import warnings

from helpers.kept import fresh
from kerassurgery_fn import DeleteChannels, KeepChannels, Snapshot, SurgeryError, analyse

LENGTH = 8  # deletions


def deleted(model, random):
    """The outcome of each of several deletions in sequence, and its outcome after a new analysis."""
    for _ in range(LENGTH):
        edit = random_deletion(model, random)
        after_others = outcome(edit, model)
        yield after_others, outcome(edit, fresh(model))
        model = after_others[0] if isinstance(after_others[0], Snapshot) else model


def random_deletion(model, random):
    """A deletion of some channels of one layer; at times of too many, or of channels that there are not."""
    path, kind = random.choice([*analyse(model).producers])
    channels = random.sample(range(9), random.choice([1, 1, 1, 2, 4]))
    made = random.choice([DeleteChannels, DeleteChannels, KeepChannels])
    return made(f"{path}:{kind}", channels, allow_output_change=random.random() < 0.2)


def outcome(edit, model):
    """The result of an edit or its error, and the warnings."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            result = edit(model)
        except SurgeryError as error:
            result = type(error).__name__, str(error)
    return result, [str(warning.message) for warning in caught]
