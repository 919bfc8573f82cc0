"""Models on disk on a suite, without a recipe."""
