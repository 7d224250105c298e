"""Artifacts on a hub: their model card, and the upload."""
