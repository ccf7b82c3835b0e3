"""The author's own files that a spec names: its files, activation scripts and applications."""

from __future__ import annotations

from envpack.prefix.own.ids import FILES
from envpack.prefix.own.read import OwnFiles, application, path_problem
from envpack.runtime.errors import SpecError
from envpack.spec.model import EnvSpec
from envpack.spec.own_files import activation_path


def own_files(spec: EnvSpec) -> tuple[OwnFiles, ...]:
    """Return the own files of a spec.

    Raises:
        SpecError: One of them does not exist, or can't be at its path; the error lists all of these.
    """
    files = {path: spec.directory / source for path, source in spec.files.items()}
    scripts = {activation_path(n, script): spec.directory / script for n, script in enumerate(spec.activate, 1)}
    apps = {path: spec.directory / source for path, source in spec.app.items()}
    found = [application(directory, path) for path, directory in apps.items()]
    problems = [
        *(f"{path}: {problem}" for path in (*files, *apps) if (problem := path_problem(path))),
        *(f"{path} does not exist" for path in files.values() if not path.exists()),
        *(f"{path} is not a directory" for path in apps.values() if not path.is_dir()),
        *(f"{path} is not a file" for path in scripts.values() if not path.is_file()),
    ]
    if problems:
        raise SpecError(
            f"{spec.source}: {len(problems)} of its own files can't be packed: {problems[0]}",
            hint="Paths are relative to the directory of the spec or lock.",
            details=problems if len(problems) > 1 else (),
        )
    others = [OwnFiles(FILES, {**files, **scripts})] if files or scripts else []
    return (*others, *found)
