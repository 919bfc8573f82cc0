"""What a task may ask a model for, and the cache of what it gave."""
