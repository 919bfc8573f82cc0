"""Distil many frozen medical foundation models into one small model."""

__version__ = "0.1.0"
