"""The version of envpack, and of the runtime that travels inside a bundle: they are one."""

__version__ = "0.1.0"
