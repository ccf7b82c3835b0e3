"""The runtime as a zip that Python can run, which travels in every bundle."""
