"""One training step each."""
