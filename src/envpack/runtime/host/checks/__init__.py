"""Comparison of a bundle's requirements with the facts of a host."""
