"""The interface of Keras-surgeon: `Surgeon`, operations on a layer, APoZ of a layer."""
