"""Keras-surgeon's `identify`, under the name that it has there."""

from kerassurgery_fn.keras_surgeon.identify import get_apoz, high_apoz

__all__ = ["get_apoz", "high_apoz"]
