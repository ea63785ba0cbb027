"""Committees of segmentation networks: what they say is decided cell by cell."""
