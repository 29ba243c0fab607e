"""The interface of Keras-surgeon: `Surgeon`, operations on one layer, `identify`."""
