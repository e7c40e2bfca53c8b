"""Metrics with intervals, and comparisons, from predictions alone."""
