"""Which teachers count for a row, and how much."""
