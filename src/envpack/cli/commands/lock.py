"""``envpack lock``: a spec becomes a lock file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from envpack.cli.console import Console, Result
from envpack.cli.option_groups import SolveOptions
from envpack.cli.options import argument, option, require_file
from envpack.cli.text import escape
from envpack.runtime.errors import DestinationError, UsageError

if TYPE_CHECKING:
    from envpack.lock.model import Lock


def lock(
    console: Console,
    *,
    spec: Annotated[
        Path, argument(metavar="[SPEC]", help="An environment.yml. [default: ./environment.yml]")
    ] = Path(),
    output: Annotated[
        Path | None,
        option("--output", "-o", metavar="FILE", help="Lock file. [default: SPEC with the suffix .lock]"),
    ] = None,
    platforms: Annotated[
        list[str] | None,
        option("--platform", metavar="SUBDIR", help="Platform to solve for, such as linux-64. Repeatable."),
    ] = None,
    solving: SolveOptions,
) -> Result:
    """Resolve a spec to exact packages, with hashes.

    The lock file has the format of rattler and pixi, and contains the conda and the pip packages. 'envpack build'
    accepts it instead of the spec. An existing lock file is replaced.

    \b
    Examples:
      envpack lock environment.yml
      envpack lock environment.yml --platform linux-64 --platform linux-aarch64
      envpack build environment.lock
    """
    from envpack.build.build import linking_below
    from envpack.lock.inputs import load_input
    from envpack.lock.model import Lock, write_lock
    from envpack.lock.project_files import find_spec
    from envpack.lock.solve import solve_lock
    from envpack.release.work import work_folder, work_root

    require_file(output)
    spec = find_spec(spec) if spec.is_dir() else spec
    source = load_input(spec, reporter=console.reporter)
    if isinstance(source, Lock):
        raise UsageError(f"{spec} is already a lock file", hint=f"Build it with 'envpack build {spec}'.")
    output = output or spec.with_suffix(".lock")
    if not output.absolute().parent.is_dir():
        raise DestinationError(f"the directory {output.absolute().parent} does not exist")
    with work_folder(work_root(console.environ)) as work:
        locked = solve_lock(
            source,
            platforms=tuple(platforms or ()),
            sources=solving.sources(),
            link=linking_below(work, console.reporter),
            reporter=console.reporter,
        )
    if write_lock(locked, output):
        console.reporter.warn(
            f"the credentials in the URLs of channels and indexes are not written to {output}; a build from it "
            "reads them from ~/.netrc"
        )

    def show(console: Console) -> None:
        console.out.write(escape(str(output)))
        console.next_steps([f"envpack build {output}"])

    return Result("lock", describe(locked, output), show)


def describe(lock: Lock, path: Path) -> dict[str, Any]:
    """Return the ``result`` of ``envpack.lock/1``."""
    from envpack.spec.credentials import without_credentials

    return {
        "path": str(path),
        "name": lock.spec.name,
        "version": lock.spec.version,
        "channels": [without_credentials(url) for url in lock.channels],
        "platforms": {
            name: {
                "conda": [
                    {
                        "name": record.name.normalized,
                        "version": str(record.version),
                        "build": str(record.build),
                        "url": without_credentials(record.url),
                        "sha256": record.sha256.hex() if record.sha256 else "",
                    }
                    for record in platform.conda
                ],
                "pypi": [
                    {
                        "name": package.name,
                        "version": package.version,
                        "url": without_credentials(package.location),
                        "sha256": package.sha256,
                    }
                    for package in platform.pypi
                ],
            }
            for name, platform in lock.platforms.items()
        },
    }
