"""The families of tasks, a folder each."""
