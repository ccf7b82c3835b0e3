"""Operating system primitives: files, folders, locks and renames. Nothing here knows a bundle."""
