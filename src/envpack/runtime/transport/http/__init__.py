"""Bundles on HTTP servers: only the ranges needed are requested, and verified like the bytes of a file."""
