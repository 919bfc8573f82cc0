"""What all tasks share: tables, scores, predictions, resampling."""
