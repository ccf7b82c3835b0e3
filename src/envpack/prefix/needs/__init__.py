"""An environment's needs of the host it runs on: CUDA, GPU code, glibc, CPU, disk, each with its evidence."""

from envpack.prefix.needs.derive import derive_needs
from envpack.prefix.needs.requires import contradictions

__all__ = ["contradictions", "derive_needs"]
