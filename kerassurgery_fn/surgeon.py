"""Keras-surgeon's `surgeon`, under the name that it has there."""

from kerassurgery_fn.keras_surgeon.surgeon import Surgeon

__all__ = ["Surgeon"]
