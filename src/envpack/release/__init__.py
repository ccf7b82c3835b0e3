"""Releases: dated names, checksums, and the steps from a spec to the published files."""
