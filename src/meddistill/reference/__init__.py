"""The reference of the keys of recipes, from their schema."""
