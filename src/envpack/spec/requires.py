"""The requirements of a bundle on its host, as a spec states them."""

from __future__ import annotations

from dataclasses import dataclass, fields

from envpack.runtime.host.minimum import NAMES, SIZES, Minimum, expected, parse_need

__all__ = ["NAMES", "SIZES", "Minimum", "Requires", "expected", "parse_need"]


@dataclass(frozen=True)
class Requires:
    """The ``requires:`` mapping. Every field is a minimum; None requires nothing.

    Args:
        cuda: The CUDA version that the host's driver must support, or an expression of NVIDIA_REQUIRE_CUDA.
        driver: The version of the driver.
        compute_capability: The compute capability of the GPU.
        gpu_memory: The memory of one GPU.
        glibc: The host's glibc.
        kernel: The host's kernel.
        cpus: Usable cores.
        memory: The host's memory.
        disk: Free space where the bundle is deployed.
    """

    cuda: Minimum | None = None
    driver: Minimum | None = None
    compute_capability: Minimum | None = None
    gpu_memory: Minimum | None = None
    glibc: Minimum | None = None
    kernel: Minimum | None = None
    cpus: Minimum | None = None
    memory: Minimum | None = None
    disk: Minimum | None = None

    def as_dict(self) -> dict[str, str]:
        """Return the texts of the requirements, by name, in the order of the fields."""
        return {name: need.text for name, need in self.items()}

    def items(self) -> list[tuple[str, Minimum]]:
        """Return the names and minimums of the fields that are not None, in order."""
        pairs = [(field.name, getattr(self, field.name)) for field in fields(self)]
        return [(name, need) for name, need in pairs if need is not None]

    @classmethod
    def from_dict(cls, texts: dict[str, str]) -> Requires:
        """Return the requirements that `as_dict` made ``texts`` from.

        Raises:
            ValueError: `parse_need` refuses a text.
        """
        return cls(**{name: parse_need(name, text) for name, text in texts.items()})
