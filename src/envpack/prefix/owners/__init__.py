"""Find the package that each file of an environment belongs to."""
