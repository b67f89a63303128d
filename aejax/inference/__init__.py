"""Inference: a stored run on new data."""
