"""Which package each file of an environment belongs to."""
