"""Extraction of a bundle into a folder, with the prefix of its destination written into the files."""
