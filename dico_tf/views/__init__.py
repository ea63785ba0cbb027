"""The views of an image that branches see. `policies`, `piece` and `pieces` can be imported without TensorFlow."""
