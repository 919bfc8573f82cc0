"""Frozen models behind one face."""
