"""Sparsity training: a callback for `fit` that shrinks the channels of coupled groups, so that they can be deleted.

A step on the weights follows each batch, apart from the optimizer: it works with any optimizer, and momentum and
adaptive learning rates do not change it, as for the weight decay of AdamW.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from kerassurgery_fn.analysis.channel_flow import analyse
from kerassurgery_fn.analysis.coupled_groups import groups_of
from kerassurgery_fn.arguments import as_flag, meant, shortened
from kerassurgery_fn.errors import BadValue, NotAGraph
from kerassurgery_fn.keras_io.coded_models import has_graph
from kerassurgery_fn.keras_io.sublayers import layers_of
from kerassurgery_fn.measure.backend_functions import compiled_step
from kerassurgery_fn.measure.statistics_pass import capture_silently
from kerassurgery_fn.pruning.group_limits import as_patterns, fitting
from kerassurgery_fn.pruning.group_weights import GroupWeights, group_weights, named_groups
from kerassurgery_fn.pruning.sparsity_steps import (
    ChannelGroup,
    Key,
    channel_group,
    shrunk,
)
from kerassurgery_fn.pruning.weight_criteria import MEMBERS, is_bn_scale
from kerassurgery_fn.values.snapshot import Snapshot

CHOICES = {**MEMBERS, "scales": is_bn_scale}


class SparsityTraining(keras.callbacks.Callback):
    """The base class of callbacks for sparsity training. A class of your own gives `factors`, and perhaps `amount`.

    Groups with a frozen weight are left alone. `logs` of each epoch get `zero_channels`, the number of channels whose
    weights are all zero.

    Args:
        of: which weights of a channel count, and are shrunk: `all`, the kernels that create the channels
            (`producers`), those that read them (`consumers`), or the scales of batch normalisations (`scales`).
        ignore: patterns of layers whose groups are left alone, as for `plan_pruning`.
        inexact: whether groups are shrunk, too, that go through a softmax or a normalisation over channels.

    Raises (when training starts):
        BadValue: no group is left.
        NotAGraph: the model is subclassed.
        UnknownLayer, NoChannels: a pattern fits nothing.
    """

    def __init__(self, *, of: str = "all", ignore: Any = (), inexact: bool = False) -> None:
        super().__init__()
        if not isinstance(of, str) or of not in CHOICES:
            raise BadValue(f"of: no choice of members {shortened(of)}; {meant(of, CHOICES)}")
        self.of, self.ignore, self.inexact = of, ignore, as_flag(inexact, "inexact")
        self.groups: list[ChannelGroup] = []
        self.variables: dict[Key, Any] = {}
        self.steps_done = 0
        self._shrink: Any = None
        self._zeros: Any = None  # the number of channels that are zero after the last step

    def factors(self, group: ChannelGroup, norms: Any, amount: Any) -> Any:
        """The factors of the channels of a group, a tensor of shape (channels,).

        Args:
            group: the group.
            norms: the norms of its channels, a tensor of shape (channels,).
            amount: what `amount` returned, a tensor.
        """
        raise NotImplementedError

    def amount(self, learning_rate: Any, steps: int) -> Any:
        """How much the next shrinking is, a number or a tensor.

        Args:
            learning_rate: the learning rate of the optimizer now, a tensor.
            steps: the number of training steps since the last shrinking; 1 unless `steps_per_execution` is larger.
        """
        raise NotImplementedError

    def selected(self, snapshot: Snapshot) -> Mapping[str, np.ndarray] | None:
        """Name of each group that is shrunk -> which of its channels are meant to go; None for all groups."""
        return None

    def on_train_begin(self, logs: Any = None) -> None:
        if not has_graph(self.model):
            raise NotAGraph(
                f"{self.model.name!r} is subclassed, and its channels are not known while it trains: train the model "
                "that rebuild(capture(model)) gives"
            )
        snapshot = capture_silently(self.model)
        layers = {path: layer.weights for path, layer, _ in layers_of(self.model, snapshot.record, "")}
        self.groups = self._trainable(self._chosen(snapshot), layers)
        if not self.groups:
            raise BadValue(
                f"no group of {self.model.name!r} can be shrunk: all are pinned, ignored, frozen, not exact or without "
                f"weights for of={self.of!r}; see groups(capture(model))"
            )
        self.variables = {axis.key: layers[axis.key[0]][axis.key[1]] for each in self.groups for axis in each.axes}
        self._shrink = compiled_step(self._assign_shrunk)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        steps = getattr(self.model, "steps_per_execution", 1)  # Keras calls once for all of them
        if hasattr(self.model, "jax_state_sync"):  # the trainer for JAX keeps weights elsewhere during an epoch
            self.model.jax_state_sync()
        rate = ops.convert_to_tensor(self.model.optimizer.learning_rate)
        self._zeros = self._shrink(ops.convert_to_tensor(self.amount(ops.cast(rate, "float32"), steps), "float32"))
        self.steps_done += steps

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if logs is not None and self._zeros is not None:
            logs["zero_channels"] = int(self._zeros)

    def _chosen(self, snapshot: Snapshot) -> list[ChannelGroup]:
        """The groups whose channels can be shrunk."""
        flow = analyse(snapshot)
        named, selected = named_groups(groups_of(flow)), self.selected(snapshot)
        ignored = fitting(flow, named, as_patterns(self.ignore))
        if selected is None:
            free = {
                name: group
                for name, group in named.items()
                if not group.pinned and name not in ignored and (self.inexact or not group.inexact)
            }
        else:
            free = {name: named[name] for name in selected if name not in ignored}
        weights = group_weights(snapshot, flow, free)
        return [self._channel_group(each, None if selected is None else selected[each.name]) for each in weights]

    def _channel_group(self, group: GroupWeights, selected: np.ndarray | None) -> ChannelGroup:
        members = [member for member in group.members if CHOICES[self.of](member) and member.array.dtype.kind == "f"]
        return channel_group(group.name, len(group), members, selected)

    def _trainable(self, groups: Sequence[ChannelGroup], layers: Mapping[str, Sequence[Any]]) -> list[ChannelGroup]:
        """The groups that have weights, all of which are trained."""
        trained = {id(variable) for variable in self.model.trainable_variables}

        def is_trained(key: Key) -> bool:
            return id(layers[key[0]][key[1]]) in trained

        return [group for group in groups if group.axes and all(is_trained(axis.key) for axis in group.axes)]

    def _assign_shrunk(self, amount: Any) -> Any:
        """Shrinks the weights. The result is the number of channels that are zero then."""
        values = {key: ops.cast(variable.value, "float32") for key, variable in self.variables.items()}
        after, zeros = shrunk(self.groups, values, lambda group, norms: self.factors(group, norms, amount), ops)
        for key, value in after.items():
            self.variables[key].assign(value)
        return zeros
