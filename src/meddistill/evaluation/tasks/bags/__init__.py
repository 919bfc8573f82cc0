"""Bags of images: one label for a patient's slices or the tiles of a slide."""
