"""Bundles in OCI registries: references, credentials, requests, and the layers of a bundle read as one file."""
