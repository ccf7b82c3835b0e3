"""Two bundles of one small environment, deployed over each other in tests of what becomes of a deployment."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from envpack.bundle.codecs import FAST
from envpack.runtime.commands.deploy import Deployment, DeployOptions, deploy
from envpack.runtime.deployment.record import read_record
from envpack.runtime.report import Reporter
from support.bundle_factory import file, make_bundle, text

PASSES = ("test -x bin/tool",)


def bundle(folder: Path, version: str, test: tuple[str, ...] = PASSES, **extra: bytes) -> Path:
    """Make a bundle; its ``bin/tool`` prints its path and version. ``extra``: further files below ``lib``."""
    path = folder / f"demo-{version}.tar.gz"
    if not path.exists():
        items = [
            text("bin/tool", b"#!/bin/sh\necho @ " + version.encode() + b"\n", 0o755),
            file("bin/activate", b"true\n"),
            file("lib/version", version.encode()),
            file(f"lib/only-in-{version}", b""),
            *(file(f"lib/{name}", data) for name, data in extra.items()),
        ]
        make_bundle(path, {"environment": items}, name="demo", version=version, test=test)
    return path


def deployed(bundle: Path | str, root: Path, store: Path | None = None, **settings: Any) -> Deployment:
    """Deploy any bundle, as the command line does, without output."""
    decoders = settings.pop("decoders", FAST)
    options = DeployOptions(**{"jobs": 2, "store": store, **settings})
    return deploy(bundle, root, options, reporter=Reporter(), decoders=decoders)


def deploy_version(folder: Path, version: str, destination: Path | None = None, **options: Any) -> Deployment:
    """Deploy that version to ``folder / "x"``, or to another path."""
    made = bundle(folder, version)
    return deploy(made, destination or folder / "x", DeployOptions(**options), reporter=Reporter())


def whole_version(root: Path) -> str:
    """Return the version at ``root``, after checking that it is complete and has the prefix of its path."""
    version = (root / "lib/version").read_text()
    assert (root / "bin/tool").read_text() == f"#!/bin/sh\necho {root} {version}\n"
    names = {"activate", "tool", "version", f"only-in-{version}"}
    found = {path.name for folder in ("bin", "lib") for path in (root / folder).iterdir()}
    assert found == names
    record = read_record(root)
    assert record is not None and record.version == version
    return version


def state_entries(root: Path) -> list[str]:
    """Return the names in the state directory, without the lock; [] if there is none."""
    folder = root.with_name(f".{root.name}.envpack")
    return sorted(path.name for path in folder.iterdir() if path.name != "lock") if folder.exists() else []
