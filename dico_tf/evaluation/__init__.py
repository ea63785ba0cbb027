"""Predictions and metrics of trained runs, and the models that a committee can have as members."""
