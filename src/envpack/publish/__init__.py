"""Publishing of a release's files."""
