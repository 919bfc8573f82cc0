"""Tasks, metrics and intervals."""
