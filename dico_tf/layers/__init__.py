"""Small serialisable Keras layers, written in keras.ops."""
