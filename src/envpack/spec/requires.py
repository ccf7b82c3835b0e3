"""What a bundle needs of the host it runs on, as a spec states it."""

from __future__ import annotations

from dataclasses import dataclass, fields

from envpack.runtime.host.minimum import NAMES, SIZES, AtLeast, expected, parse_need

__all__ = ["NAMES", "SIZES", "AtLeast", "Requires", "expected", "parse_need"]


@dataclass(frozen=True)
class Requires:
    """The ``requires:`` mapping. Every field is a minimum; None asks nothing.

    ``cuda`` is the CUDA version the host's driver must support, or an expression of NVIDIA_REQUIRE_CUDA;
    ``driver`` the driver itself, ``compute_capability`` of the GPU, ``gpu_memory`` of one GPU, ``glibc`` and
    ``kernel`` of the host, ``cpus`` usable cores, ``memory`` of the host, ``disk`` free space where the bundle is
    deployed.
    """

    cuda: AtLeast | None = None
    driver: AtLeast | None = None
    compute_capability: AtLeast | None = None
    gpu_memory: AtLeast | None = None
    glibc: AtLeast | None = None
    kernel: AtLeast | None = None
    cpus: AtLeast | None = None
    memory: AtLeast | None = None
    disk: AtLeast | None = None

    def as_dict(self) -> dict[str, str]:
        """The texts of what is required, by name, in the order above."""
        return {name: need.text for name, need in self.items()}

    def items(self) -> list[tuple[str, AtLeast]]:
        pairs = [(field.name, getattr(self, field.name)) for field in fields(self)]
        return [(name, need) for name, need in pairs if need is not None]

    @classmethod
    def from_dict(cls, texts: dict[str, str]) -> Requires:
        """The inverse of `as_dict`; ValueError for what `parse_need` refuses."""
        return cls(**{name: parse_need(name, text) for name, text in texts.items()})
