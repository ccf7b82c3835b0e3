"""Projects as wheels: built for an environment's Python, and installed where they are not in its way."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from envpack.build.bytecode import compile_prefix
from envpack.build.pip import NOT_COPIED, forget_build_machine
from envpack.lock.uvtool import index_arguments, run_uv, without_secrets
from envpack.runtime.errors import BuildError
from envpack.runtime.report import Reporter


def install_as_wheels(projects: Mapping[Path, str], python: Path, folder: Path, *, reporter: Reporter) -> Path:
    """Build the folders ``projects`` (with their names, for messages) and install them below ``folder``.

    Gives the folder that has them as a prefix would, with scripts that run ``python``, an environment's
    interpreter, and byte code. Neither that environment nor the projects are written to. BuildError with what the
    build said.
    """
    wheels, overlay = folder / "wheels", folder / "prefix"
    with reporter.step("Building wheels", total=len(projects), unit="projects") as step:
        for number, (project, name) in enumerate(projects.items()):
            # builds leave things in the source folder; the name of the copy shows in no wheel
            copy = folder / "sources" / str(number)
            shutil.copytree(project, copy, symlinks=True, ignore=NOT_COPIED)
            _build(name, copy, wheels, python)
            step.advance()
        built = sorted(wheels.glob("*.whl"))
        install = ["pip", "install", "--python", str(python), "--prefix", str(overlay), "--no-deps", "--no-index"]
        install += ["--break-system-packages", "--link-mode", "copy", *map(str, built)]
        run_uv(install, "the wheels that were built can't be installed", cwd=folder)
        step.detail = ", ".join(wheel.name for wheel in built)
    (overlay / ".lock").unlink(missing_ok=True)  # uv's
    for site_packages in overlay.glob("lib/*/site-packages"):
        forget_build_machine(site_packages, python.parent.parent)
    compile_prefix(overlay, python, reporter=reporter)
    return overlay


def _build(name: str, project: Path, wheels: Path, python: Path) -> None:
    command = ["build", "--wheel", "--python", str(python), "--out-dir", str(wheels), *index_arguments([], None)]
    said: list[str] = []
    try:
        run_uv([*command, str(project)], f"{name} can't be built", cwd=project.parent, on_line=said.append)
    except BuildError as error:
        # what the build itself said comes before uv's account of it
        own = [line for line in said if not line.startswith(("error:", "  ", "hint:"))]
        raise BuildError(
            error.message, hint=error.hint, details=without_secrets("\n".join(own)).splitlines()[-20:]
        ) from None
