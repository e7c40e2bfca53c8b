"""Cohort readers, a file each."""
