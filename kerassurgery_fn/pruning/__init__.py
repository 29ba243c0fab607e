"""Pruning without Keras: criteria as functions of arrays, scores of channels, and plans that meet a budget."""

import kerassurgery_fn.pruning.importance_scoring  # noqa: F401 - registers the criteria
from kerassurgery_fn.pruning.apoz_scores import ZeroCounts, count_zeros, high_apoz
from kerassurgery_fn.pruning.criterion_registry import CRITERIA, Criterion, criterion
from kerassurgery_fn.pruning.group_weights import GroupWeights, Member

__all__ = ["CRITERIA", "Criterion", "GroupWeights", "Member", "ZeroCounts", "count_zeros", "criterion", "high_apoz"]
