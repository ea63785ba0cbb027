"""Datasets, their splits, the order of an epoch, and batches."""
