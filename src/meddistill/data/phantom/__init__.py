"""Procedural medical-looking images: no patient, no licence, any number of them."""
