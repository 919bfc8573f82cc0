"""Intervals, tests between models, ranks over tasks, groups of patients, several runs."""
