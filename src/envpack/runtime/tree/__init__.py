"""An unpacked environment on disk: its manifest, its prefix, what has changed in it."""
