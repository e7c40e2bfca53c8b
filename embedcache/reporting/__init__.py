"""The report: one HTML file from a results folder."""
