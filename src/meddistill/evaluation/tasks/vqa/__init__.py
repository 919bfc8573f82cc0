"""Visual question answering: a question about an image, and the answer a model gives."""
