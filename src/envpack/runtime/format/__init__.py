"""The bundle format as values and as JSON: what FORMAT.md says."""
