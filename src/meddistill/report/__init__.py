"""Results as one HTML file."""
