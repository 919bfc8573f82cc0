"""Survival: whose event comes earlier, by frozen embeddings."""
