"""A suite over models: predictions, metrics, comparison, export."""
