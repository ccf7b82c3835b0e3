"""Publishing in OCI registries: the segments of a bundle are the layers of an image."""
