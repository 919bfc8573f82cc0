"""Tasks that give every image a class, or several labels."""
