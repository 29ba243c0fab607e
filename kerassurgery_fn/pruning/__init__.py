"""How important each channel is: pure functions on arrays, one criterion a file."""

from kerassurgery_fn.pruning.apoz_scores import ZeroCounts, count_zeros, high_apoz

__all__ = ["ZeroCounts", "count_zeros", "high_apoz"]
