"""Operating system primitives: files, folders, locks and renames. Nothing here depends on bundles."""
