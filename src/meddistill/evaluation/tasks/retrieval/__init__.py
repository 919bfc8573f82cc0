"""Images for texts and texts for images."""
