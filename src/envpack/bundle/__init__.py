"""Writing bundles: the file format that FORMAT.md beside this file describes.

Reading is in ``envpack.runtime``, because it travels inside every bundle.
"""
