"""Penalties for sparsity training, as callbacks for `fit`: group lasso, L1 on scales, relative and growing decay."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from keras import ops

from kerassurgery_fn.analysis.channel_flow import analyse
from kerassurgery_fn.analysis.coupled_groups import groups_of
from kerassurgery_fn.arguments import as_count, shortened
from kerassurgery_fn.documents.plan_algebra import lost_channels
from kerassurgery_fn.edits import DeleteChannels
from kerassurgery_fn.edits.plan import as_edit
from kerassurgery_fn.errors import BadValue
from kerassurgery_fn.measure.sparsity_callbacks import SparsityTraining
from kerassurgery_fn.pruning.group_weights import named_groups
from kerassurgery_fn.pruning.sparsity_steps import ChannelGroup, group_lasso, grown, relative_decay, selected_decay
from kerassurgery_fn.values.snapshot import Snapshot


def as_strength(value: Any, name: str = "strength") -> float:
    """A positive number.

    Raises:
        BadValue: it is none.
    """
    if isinstance(value, int | float | np.number) and not isinstance(value, bool) and 0 < value < np.inf:
        return float(value)
    raise BadValue(f"{name} must be a positive number, such as 1e-3, not {shortened(value)}")


class GroupLasso(SparsityTraining):
    """Group lasso over all weights of a coupled channel: small channels become exactly zero.

        model.fit(x, y, callbacks=[GroupLasso(1e-3)])

    The penalty of a channel is its L2 norm, times the root of the number of its weights, so that one strength suits
    layers of all sizes (Yuan and Lin 2006). After each training step, its proximal step is taken:

        w <- w * max(0, 1 - learning_rate * strength * sqrt(size) / ||w||)

    Wen et al. 2016, Learning Structured Sparsity in Deep Neural Networks, arXiv:1608.03665.

    Args:
        strength: the strength of the penalty, relative to the learning rate.
        of, ignore, inexact: as for `SparsityTraining`.

    Raises:
        BadValue: the strength is not a positive number, or `of` is unknown.
    """

    def __init__(self, strength: float = 1e-3, *, of: str = "all", ignore: Any = (), inexact: bool = False) -> None:
        super().__init__(of=of, ignore=ignore, inexact=inexact)
        self.strength = as_strength(strength)

    def amount(self, learning_rate: Any, steps: int) -> Any:
        return learning_rate * self.strength * steps

    def factors(self, group: ChannelGroup, norms: Any, amount: Any) -> Any:
        return group_lasso(norms, amount * np.sqrt(group.sizes), ops)


class BatchNormL1(GroupLasso):
    """L1 on the scales of batch normalisations (network slimming): scales of unimportant channels become exactly zero.

    After each training step, |gamma| falls by learning_rate * strength. Scales of one coupled channel fall together,
    by their norm. Prune by `bn_scale` then. A channel whose scale is zero still has the value of its offset: fine-tune
    after the cut, or shrink all weights by `GroupLasso`.

    Liu et al. 2017, Learning Efficient Convolutional Networks through Network Slimming, arXiv:1708.06519.

    Args:
        strength: the strength of the penalty, relative to the learning rate.
        ignore, inexact: as for `SparsityTraining`.

    Raises:
        BadValue: the strength is not a positive number.
    """

    def __init__(self, strength: float = 1e-2, *, ignore: Any = (), inexact: bool = False) -> None:
        super().__init__(strength, of="scales", ignore=ignore, inexact=inexact)


class RelativeDecay(GroupLasso):
    """Weight decay of coupled channels that is stronger for small channels than for large ones of the same group.

    After each training step, all weights of a channel are divided by

        1 + learning_rate * strength * 2 ** (alpha * (largest - norm) / (largest - smallest))

    with the norms of the channels of its group. No channel becomes exactly zero; the small ones fall behind.

    Fang et al. 2023, DepGraph: Towards Any Structural Pruning, arXiv:2301.12900, section 3.3 (the sparse training of
    Torch-Pruning's group norm pruner).

    Args:
        strength: the strength of the decay of the largest channel of a group, relative to the learning rate.
        alpha: the smallest channel of a group decays 2 ** alpha times as fast.
        of, ignore, inexact: as for `SparsityTraining`.

    Raises:
        BadValue: `strength` or `alpha` is not a positive number, or `of` is unknown.
    """

    def __init__(
        self,
        strength: float = 1e-2,
        alpha: float = 4.0,
        *,
        of: str = "all",
        ignore: Any = (),
        inexact: bool = False,
    ) -> None:
        super().__init__(strength, of=of, ignore=ignore, inexact=inexact)
        self.alpha = as_strength(alpha, "alpha")

    def factors(self, group: ChannelGroup, norms: Any, amount: Any) -> Any:
        return relative_decay(norms, amount, self.alpha, ops)


class GrowingDecay(SparsityTraining):
    """Weight decay that grows, of the channels that a plan deletes: the model learns to do without them first.

        plan = plan_pruning(capture(model), importance(model), macs=0.5)
        model.fit(x, y, epochs=10, callbacks=[GrowingDecay(plan)])
        smaller = rebuild(plan(capture(model)))

    After each training step, all weights of these channels are divided by 1 + learning_rate * strength, where the
    strength is `growth * (step // every)`, at most `most`.

    Wang et al. 2021, Neural Pruning via Growing Regularization, arXiv:2012.09243 (GReg-1).

    Args:
        plan: a plan that deletes channels of the model.
        growth: how much the strength grows at once.
        every: the number of training steps after which it grows.
        most: the largest strength.
        ignore: as for `SparsityTraining`.

    Raises:
        BadValue: an argument is not valid, or, when training starts, the plan deletes no channels.
        All errors of the plan, when training starts.
    """

    def __init__(
        self, plan: Any, growth: float = 1e-1, every: int = 10, most: float = 1e3, *, ignore: Any = ()
    ) -> None:  # fmt: skip
        super().__init__(ignore=ignore)
        self.plan, self.every = as_edit(plan, "plan"), as_count(every, "every")
        self.growth, self.most = as_strength(growth, "growth"), as_strength(most, "most")

    def selected(self, snapshot: Snapshot) -> Mapping[str, np.ndarray]:
        """The channels that the plan deletes.

        Raises:
            BadValue: there are none.
        """
        lost = lost_channels(self.plan, snapshot)
        if not lost:
            raise BadValue(f"plan: it deletes no channels of {snapshot.name!r}; plan_pruning gives a plan that does")
        flow = analyse(snapshot)
        dead = DeleteChannels(lost).ids_to_delete(snapshot, flow)
        masks = {name: dead[group.ids] for name, group in named_groups(groups_of(flow)).items()}
        return {name: mask for name, mask in masks.items() if mask.any()}

    def amount(self, learning_rate: Any, steps: int) -> Any:
        return learning_rate * grown(self.steps_done, self.growth, self.every, self.most) * steps

    def factors(self, group: ChannelGroup, norms: Any, amount: Any) -> Any:
        return selected_decay(norms, amount, group.selected, ops)  # type: ignore[arg-type]
