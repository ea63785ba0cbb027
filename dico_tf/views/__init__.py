"""The views of an image that branches see. `policies`, `piece` and `pieces` need no TensorFlow."""
