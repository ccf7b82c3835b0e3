"""Formats of other tools: archives that conda-pack made are read, deployed and converted.

The formats that envpack does not write itself are written through conda-pack's own library.
"""
