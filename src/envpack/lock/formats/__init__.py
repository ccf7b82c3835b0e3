"""Readers of lock files of other tools."""
