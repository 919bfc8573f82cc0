"""One task a file: embeddings in, predictions out."""
