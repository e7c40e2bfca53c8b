"""Labelled images with patients, as their publishers or hospitals keep them."""
