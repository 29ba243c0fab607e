"""The command line `kerassurgery`: operations on `.keras` files, without Keras."""
