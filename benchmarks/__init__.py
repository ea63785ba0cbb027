"""Whole-process measurements that print one JSON object a line."""
