"""The loop around a method."""
