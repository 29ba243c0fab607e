"""From a model to a smaller model, beside a copy of the model that changes nothing."""

from collections.abc import Callable, Iterator

import keras
from keras.saving import serialize_keras_object
from networks import network
from timing import Settings, in_turns, markdown, milliseconds, named, times_as_long

from helpers.kept import fresh
from kerassurgery_fn import DeleteChannels, Snapshot, analyse, capture, groups, rebuild
from kerassurgery_fn.keras_io.reviving import revive
from kerassurgery_fn.keras_io.scopes import without_weights

NAMES = ("ResNet50", "InceptionV3")


def half_of_all(snapshot: Snapshot) -> DeleteChannels:
    """The deletion of every second channel of every group that can be cut."""
    channels: dict[str, tuple[int, ...]] = {}
    for group in groups(snapshot):
        if not group.pinned:
            for address, positions in group.channels(range(0, len(group), 2)).items():
                channels[address] = (*channels.get(address, ()), *positions)
    return DeleteChannels(channels)


def last_block(snapshot: Snapshot) -> DeleteChannels:
    """The deletion of half of the channels of the last convolution that can be cut without any other layer's."""
    alone = [group for group in groups(snapshot) if not group.pinned and len(group.made) == 1]
    return DeleteChannels(alone[-1].channels(range(0, len(alone[-1]), 2)))


def copied(model: keras.Model) -> keras.Model:
    """A copy that does nothing else."""
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    return copy


def without_values(snapshot: Snapshot) -> keras.Model:
    """The model that Keras creates from a config, with variables that have no values yet."""
    with without_weights():
        return revive(snapshot, None, True)


def subjects_of(model: keras.Model) -> dict[str, Callable[[], object]]:
    """All of it, its steps, and the copy."""
    snapshot = capture(model)
    edit = half_of_all(snapshot)
    smaller, last = edit(snapshot), last_block(snapshot)(snapshot)
    return {
        "capture, edit, rebuild": lambda: rebuild(edit(capture(model))),
        "capture": lambda: capture(model),
        "analysis": lambda: analyse(fresh(snapshot)),
        "edit, with its analysis": lambda: edit(fresh(snapshot)),
        "rebuild": lambda: rebuild(smaller),
        "Keras' part of capture: config and weights": lambda: (serialize_keras_object(model), model.get_weights()),
        "Keras' part of rebuild: layers without weights": lambda: without_values(smaller),
        "rebuild after a cut of the last block": lambda: rebuild(last),
        "the same with reuse=model": lambda: rebuild(last, reuse=model),
        "clone_model and set_weights": lambda: copied(model),
    }


def main(settings: Settings) -> Iterator[str]:
    """The table of this benchmark."""
    rows = []
    for name in named(NAMES, settings):
        times = in_turns(subjects_of(network(name)), settings)
        copy = times["clone_model and set_weights"]
        rows += [[name, what, milliseconds(found), times_as_long(found, copy)] for what, found in times.items()]
    yield markdown(["model", "what", "time", "against clone_model and set_weights"], rows)
