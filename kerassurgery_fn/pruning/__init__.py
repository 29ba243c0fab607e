"""Criteria for pruning: the importance of each channel as a pure function of arrays, one criterion per file."""

from kerassurgery_fn.pruning.apoz_scores import ZeroCounts, count_zeros, high_apoz

__all__ = ["ZeroCounts", "count_zeros", "high_apoz"]
