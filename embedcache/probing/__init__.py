"""Fits probes on cached features."""
