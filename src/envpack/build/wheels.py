"""Projects built as wheels for an environment's Python and installed outside that environment."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from envpack.build.activation import activated
from envpack.build.bytecode import compile_prefix
from envpack.build.pip import remove_build_records
from envpack.build.sources import copy_project
from envpack.lock.failures import shortened
from envpack.lock.uvtool import index_arguments, run_uv
from envpack.runtime.errors import BuildError
from envpack.runtime.report import Reporter
from envpack.runtime.transport.redact import without_secrets


def install_as_wheels(projects: Mapping[Path, str], python: Path, folder: Path, *, reporter: Reporter) -> Path:
    """Build project folders as wheels and install them below ``folder``.

    Neither the environment nor the projects are written to.

    Args:
        projects: The project folders, with their names for messages.
        python: The interpreter of an environment (PREFIX/bin/python); installed scripts run it.
        folder: A work folder, for copies of the sources, the wheels and the installed files.
        reporter: Shows the progress.

    Returns:
        The folder with the installed files in the layout of a prefix: packages, scripts and byte code.

    Raises:
        BuildError: A project can't be built or installed; the details are the output of the build.
    """
    wheels, overlay = folder / "wheels", folder / "prefix"
    with reporter.step("Building wheels", total=len(projects), unit="projects") as step:
        for number, (project, name) in enumerate(projects.items()):
            # builds leave files in the source folder; no wheel contains the name of the copy
            copy = copy_project(project, folder / "sources" / str(number))
            _build(name, copy, wheels, python)
            step.advance()
        built = sorted(wheels.glob("*.whl"))
        install = ["pip", "install", "--python", str(python), "--prefix", str(overlay), "--no-deps", "--no-index"]
        install += ["--break-system-packages", "--link-mode", "copy", *map(str, built)]
        run_uv(install, "the wheels that were built can't be installed", cwd=folder)
        step.detail = ", ".join(wheel.name for wheel in built)
    (overlay / ".lock").unlink(missing_ok=True)  # left by uv
    for site_packages in overlay.glob("lib/*/site-packages"):
        remove_build_records(site_packages, python.parent.parent)
    compile_prefix(overlay, python, reporter=reporter)
    return overlay


def _build(name: str, project: Path, wheels: Path, python: Path) -> None:
    command = ["build", "--wheel", "--python", str(python), "--out-dir", str(wheels), *index_arguments([], None)]
    output: list[str] = []
    try:
        run_uv(
            [*command, str(project)],
            f"{name} can't be built",
            cwd=project.parent,
            on_line=output.append,
            activation=activated(python.parent.parent),
        )
    except BuildError as error:
        # the output of the build itself comes before uv's messages
        build_output = [without_secrets(line) for line in output if not line.startswith(("error:", "  ", "hint:"))]
        raise BuildError(
            error.message, hint=error.hint, details=shortened(build_output), log=build_output
        ) from None
