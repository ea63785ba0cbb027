"""Committees of segmentation networks, which decide cell by cell."""
