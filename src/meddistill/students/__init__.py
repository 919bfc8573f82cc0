"""The models that learn."""
