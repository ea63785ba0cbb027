"""Formats of exported files, one module each."""
