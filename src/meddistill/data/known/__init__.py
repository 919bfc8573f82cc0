"""Public data sets: how a copy on this disk becomes tables and a suite. Nothing is fetched."""
