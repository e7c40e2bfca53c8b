"""Runs every encoder once over every image into a feature store."""
