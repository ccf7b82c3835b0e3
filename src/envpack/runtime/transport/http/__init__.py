"""Bundles on HTTP servers: only what is needed of them is asked for, and it is proved like a file's bytes."""
