"""An unpacked environment on disk: its manifest, its installed prefix, and its local changes."""
