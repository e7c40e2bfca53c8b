"""Estimators, a file each."""
