"""What a feature store alone tells of its teachers, before any training."""
