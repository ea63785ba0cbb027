"""Keras networks: what they cost, and how any of them is divided."""
