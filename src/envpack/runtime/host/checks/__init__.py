"""Compare what an environment requires with the facts of a host."""
