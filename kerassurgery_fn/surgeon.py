"""The module `surgeon` of Keras-surgeon: several operations on a live model at once."""

from kerassurgery_fn.keras_surgeon.job_collector import Surgeon

__all__ = ["Surgeon"]
