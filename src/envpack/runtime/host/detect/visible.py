"""The effect of CUDA_VISIBLE_DEVICES: which of the GPUs that NVML lists CUDA can see. No I/O."""

from __future__ import annotations

from dataclasses import replace
from typing import Sequence

from envpack.runtime.host.facts import Gpu


def with_visibility(devices: Sequence[Gpu], setting: str | None, order: str = "") -> tuple[Gpu, ...]:
    """Return the GPUs with ``visible`` set. Of a GPU with named MIG slices, only these slices stay.

    CUDA accepts numbers, beginnings of UUIDs and MIG UUIDs, and stops at the first that names no GPU (CUDA
    Programming Guide, CUDA Environment Variables). Numbers follow the PCI address only with PCI_BUS_ID; otherwise
    the fastest GPU is the first. With GPUs of different kinds the order is then unknown, and ``visible`` is None.

    Args:
        devices: The GPUs in the order of their PCI address.
        setting: The value of CUDA_VISIBLE_DEVICES, None when it is not set.
        order: The value of CUDA_DEVICE_ORDER.
    """
    if setting is None:
        return tuple(replace(gpu, visible=True) for gpu in devices)
    seen: set[int] = set()
    slices: dict[int, set[str]] = {}
    alike = len({(gpu.name, gpu.memory, gpu.mig) for gpu in devices}) <= 1
    uncertain = False
    for word in setting.split(","):
        found = _named(word.strip(), devices)
        if found is None:
            break
        if not alike and order != "PCI_BUS_ID" and word.strip().isdigit():
            uncertain = True
        seen.add(found)
        if any(part.uuid == word.strip() for part in devices[found].slices):
            slices.setdefault(found, set()).add(word.strip())
    if uncertain and len(seen) < len(devices):
        return tuple(replace(gpu, visible=None) for gpu in devices)
    shown = [replace(gpu, visible=position in seen) for position, gpu in enumerate(devices)]
    for position, uuids in slices.items():
        named = tuple(part for part in shown[position].slices if part.uuid in uuids)
        shown[position] = replace(shown[position], slices=named)
    return tuple(shown)


def _named(word: str, devices: Sequence[Gpu]) -> int | None:
    """Return the position of the GPU that one word names; None when it names none, or several."""
    if word.isdigit():
        return int(word) if int(word) < len(devices) else None
    if word.startswith("MIG-"):
        owners = [
            position
            for position, gpu in enumerate(devices)
            if any(part.uuid and part.uuid == word for part in gpu.slices)
            or (gpu.uuid and word.startswith(f"MIG-{gpu.uuid}/"))  # as drivers before R470 named them
        ]
        return owners[0] if owners else None
    found = [position for position, gpu in enumerate(devices) if word and gpu.uuid.startswith(word)]
    return found[0] if len(found) == 1 else None
