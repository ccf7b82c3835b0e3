"""Writing of bundles, in the file format that FORMAT.md in this directory describes.

Reading is in ``envpack.runtime``, because it travels inside every bundle.
"""
