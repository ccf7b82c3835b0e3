"""Segments that were compressed before, kept for the next bundle."""
