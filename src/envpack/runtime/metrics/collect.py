"""Collection of all samples: reads the deployments, their processes and the GPUs at this moment."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Iterable

from envpack.runtime.deployment.listing import UNREADABLE, DeploymentInfo, deployment_info
from envpack.runtime.deployment.record import UNRECORDED, Generation
from envpack.runtime.deployment.registry import every_registered
from envpack.runtime.deployment.state import DeploymentState
from envpack.runtime.errors import EnvpackError
from envpack.runtime.format.layout import OWN_FOLDER, STAMP_PATH
from envpack.runtime.host.detect.gpu_usage import GpuUsage, read_gpu_usage
from envpack.runtime.metrics.families import Sample
from envpack.runtime.metrics.processes import Place, process_of_thread, processes_of
from envpack.runtime.metrics.samples import Deployed, deployment_samples, gpu_samples, process_samples
from envpack.runtime.service.starts import read_starts
from envpack.runtime.version import __version__


def collect(destinations: Iterable[Path] = ()) -> list[Sample]:
    """Return the samples of this host. Nothing is written, and no lock is taken.

    Args:
        destinations: The deployments; none: every one that is registered, also where it can't be found any more.
    """
    paths = sorted(set(destinations)) or every_registered()
    deployed = [read_deployed(path) for path in paths]
    there = [each for each in deployed if each.info is not None]
    processes = processes_of([_place(each.path) for each in there])
    return [
        Sample("info", (__version__,), 1),
        *(sample for each in deployed for sample in deployment_samples(each)),
        *process_samples([each.path for each in there], processes),
        *gpu_samples(map(_with_processes, read_gpu_usage()), processes),
    ]


def _with_processes(gpu: GpuUsage) -> GpuUsage:
    """Return the usage with the numbers of processes, where the driver states those of threads."""
    if gpu.processes is None:
        return gpu
    return replace(gpu, processes=tuple(replace(each, pid=process_of_thread(each.pid)) for each in gpu.processes))


def read_deployed(path: Path) -> Deployed:
    """Return what can be read of the destination at ``path``; never raises for what is wrong there."""
    try:
        info = deployment_info(path, sizes=False)
        if info is None and not _is_missing(path):
            raise OSError
    except (EnvpackError, OSError, ValueError):
        unknown = Generation(UNRECORDED, "", "", "", "", 0, None)
        info = DeploymentInfo(os.path.abspath(path), unknown, "", 0, 0, (), UNREADABLE)
    if info is None:
        return Deployed(os.path.abspath(path), None)
    return Deployed(info.path, info, _checked(path), tuple(read_starts(path)))


def _is_missing(path: Path) -> bool:
    """Return whether there is no deployment; False when that can't be seen, as in a directory that is closed."""
    try:
        os.lstat(path / OWN_FOLDER)
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False
    return True


def _checked(root: Path) -> float | None:
    """Return when the stamps of passed checks were written last, see `envpack.runtime.host.stamp`."""
    try:
        return os.lstat(root / STAMP_PATH).st_mtime
    except OSError:
        return None


def _place(path: str) -> Place:
    state = DeploymentState(Path(path))
    return Place(path, os.fsencode(state.path), os.fsencode(state.state_dir))
