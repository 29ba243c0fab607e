"""What an edit would do to a model, and why, without doing it."""

from kerassurgery_fn.explaining.chains import Link
from kerassurgery_fn.explaining.explanation import Cause, Cut, Explanation, Loss, explain

__all__ = ["Cause", "Cut", "Explanation", "Link", "Loss", "explain"]
