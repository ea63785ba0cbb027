"""From a network to the files that answer without Keras."""
