"""Pools of worker processes and threads, as many as this process may use."""
