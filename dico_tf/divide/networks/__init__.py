"""Cost and division of any Keras network."""
