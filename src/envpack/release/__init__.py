"""Dated names, checksums, and the steps from a spec to the files one publishes."""
