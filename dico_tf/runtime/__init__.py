"""Runs exported networks without TensorFlow."""
