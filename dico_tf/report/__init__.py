"""Self-contained HTML pages of runs, committees and comparisons, in one look."""
