"""Live Keras models: capture, rebuild, and layers as people pass them."""
