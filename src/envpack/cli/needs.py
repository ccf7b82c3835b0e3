"""What was found that an environment needs of a host, in short lines for a person."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from envpack.runtime.format.needs import Needs


def needs_lines(needs: Needs) -> Iterator[tuple[str, str]]:
    """Labels and values: each need with its evidence; the GPU code of main libraries only."""
    from envpack.runtime.host.checks.gpu_code import shown

    for label, evidence in (("CUDA", needs.cuda), ("ROCm", needs.rocm)):
        if evidence is not None:
            yield label, f"{evidence.value}, {evidence.source}" if evidence.value else evidence.source
    if needs.cuda is None and needs.rocm is None:
        for evidence in needs.cpu_builds:
            yield "no GPU", evidence.source
    for code in needs.gpu_code:
        if code.main and (code.sass or code.ptx):
            yield "GPU code", f"{shown(code)} in {code.library}"
    if needs.jit:
        yield "compiles", f"for the GPU at run time: {', '.join(evidence.value for evidence in needs.jit)}"
    for evidence in needs.cuda_compat:
        yield "driver", f"{evidence.value or 'one'} inside, for forward compatibility: {evidence.source}"
    for label, evidence in (("glibc", needs.glibc), ("CPU", needs.cpu)):
        if evidence is not None:
            yield label, f"{evidence.value}, {evidence.source}"
