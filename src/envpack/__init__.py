"""envpack: a spec becomes a prefix, a prefix becomes a bundle, a bundle becomes a deployment."""

from envpack.runtime.version import __version__

__all__ = ["__version__"]
