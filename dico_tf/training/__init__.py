"""Train a run: from a Config to weights, metrics and a summary in the run's folder."""
