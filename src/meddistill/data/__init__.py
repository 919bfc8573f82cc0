"""Tables, samples and batches."""
