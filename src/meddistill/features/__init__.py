"""The feature store: what the teachers said, kept on disk."""
