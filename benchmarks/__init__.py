"""Whole-process measurements that print one JSON object per line."""
