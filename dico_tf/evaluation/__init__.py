"""What a run's predictions are worth: metrics, diversity, reports."""
