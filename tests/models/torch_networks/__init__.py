"""The nine families once more, in torch and from the paper's facts alone: a cross-check, and files to carry from."""
