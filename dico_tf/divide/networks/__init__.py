"""Cost and division of any functional or sequential Keras model."""
