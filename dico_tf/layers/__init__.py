"""Small serialisable Keras layers, and functions that apply them to symbolic tensors."""
