"""Where images come from, what is held out of them, in which order and batches they pass."""
