"""Relocation: writing a prefix into the bytes of files, and the exact inverse."""
