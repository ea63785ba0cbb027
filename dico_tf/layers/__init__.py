"""Small serialisable layers, written in keras.ops."""
