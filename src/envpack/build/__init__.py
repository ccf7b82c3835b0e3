"""The build of a prefix from a spec or a lock."""
