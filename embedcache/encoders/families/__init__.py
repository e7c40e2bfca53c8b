"""Encoders, a file a family."""
