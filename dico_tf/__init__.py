"""Divide one wide network into small branches, co-train them, and average their answers."""

__version__ = "0.1.0"
