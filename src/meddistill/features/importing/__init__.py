"""Feature files of other projects, brought into a feature store."""
