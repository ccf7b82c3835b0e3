"""The lock of an environment: a spec resolved to exact packages, in the file format of rattler and pixi."""

from envpack.lock.inputs import load_input
from envpack.lock.model import Lock, LockedPlatform, LockedPypi, read_lock, write_lock
from envpack.lock.solve import PackageSources, solve_lock

__all__ = [
    "Lock",
    "LockedPlatform",
    "LockedPypi",
    "PackageSources",
    "load_input",
    "read_lock",
    "solve_lock",
    "write_lock",
]
