"""Outlining structures from frozen patch tokens: label maps, decoders, overlap and surface metrics."""
