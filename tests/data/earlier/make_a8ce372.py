"""Makes a8ce372.tar.gz, with commit a8ce372's own code and the files of its tests.

In a clone of that commit, after ``make install``: ``PYTHONPATH=tests .venv/bin/python make_a8ce372.py OUTPUT``.
Everything is made in BASE, which is removed afterwards. `test_earlier_versions` says what is what.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import py_compile
import shutil
import subprocess
import sys
from pathlib import Path

BASE = Path("/tmp/envpack-a8ce372")
"""The records name it."""

KILLED = 9
CALLS = ("link", "mkdir", "rename", "replace", "rmdir", "unlink")


def bundle(version: str, suffix: str) -> Path:
    """What ``lives.bundle`` makes, in both formats."""
    from synthetic import file, make_bundle, text

    path = BASE / f"demo-{version}{suffix}"
    items = [
        text("bin/tool", b"#!/bin/sh\necho @ " + version.encode() + b"\n", 0o755),
        file("bin/activate", b"true\n"),
        file("lib/version", version.encode()),
        file(f"lib/only-in-{version}", b""),
    ]
    test = ("test -x bin/tool",)
    make_bundle(path, {"environment": items}, name="demo", version=version, test=test)
    return path


def command_line(*words: object) -> None:
    """envpack; what it adds to an environment is left out, as it is large and the commit can be built again."""
    from envpack.bundle import pack
    from envpack.cli.app import main
    from envpack.cli.console import Console

    pack.runtime_files = lambda: {".envpack/runtime.pyz": (b"", 0o644), "bin/activate": (b"true\n", 0o644)}
    code = main([str(word) for word in words], Console.of_process())
    assert code == 0, words


def runtime(*words: object) -> int:
    from envpack.runtime.__main__ import main

    return main([*map(str, words), "--quiet"] if words[0] != "unpack" else list(map(str, words)))


def deploy(made: Path, root: Path, *options: object) -> None:
    assert runtime("deploy", made, root, "--no-check", *options) == 0


def twice(root: Path, *options: object) -> None:
    """Version 2 over version 1."""
    root.parent.mkdir(parents=True, exist_ok=True)
    for version in "12":
        deploy(BASE / f"demo-{version}.tar.gz", root, *options)


def kill_at(number: int, can_exchange: bool) -> None:
    """From now on the process ends at its call of that number that changes names."""
    from envpack.runtime import switching

    left = number

    def count() -> None:
        nonlocal left
        left -= 1
        if left == 0:
            os._exit(KILLED)

    def counted(function):
        def call(*arguments, **options):
            count()
            return function(*arguments, **options)

        return call

    def no_exchange(first: Path, second: Path) -> None:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    for name in CALLS:
        setattr(os, name, counted(getattr(os, name)))
    switching.exchange = counted(switching.exchange) if can_exchange else no_exchange


def state(root: Path) -> list[object]:
    """Names and contents, but not how far a tree is written or removed that counts for nothing."""
    found: list[object] = []
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root)
        if not any(parent.name.startswith(("new-", "trash-")) for parent in name.parents):
            content = path.read_bytes() if path.is_file() and not path.is_symlink() else b""
            found.append((str(name), content.replace(os.fsencode(root), b"")))
    return found


def crashed(name: str, prepare, words, can_exchange: bool = True) -> None:
    """A folder for each state that a command leaves when it is killed; NAME-01 and on."""
    seen: list[list[object]] = []
    for number in range(1, 200):
        folder = BASE / "crashed" / f"{name}-{len(seen) + 1:02}"
        folder.mkdir(parents=True)
        prepare(folder)
        child = os.fork()
        if child == 0:
            kill_at(number, can_exchange)
            os._exit(runtime(*words(folder)))
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        left = state(folder)
        if code != KILLED or left in seen:
            shutil.rmtree(folder)
        else:
            seen.append(left)
        if code != KILLED:
            assert code == 0, (name, number, code)
            return


def all_kinds() -> None:
    """An environment with everything that is relocated; packed with a cache."""
    prefix = BASE / ("prefix" * 35)  # as long as that of another place may be
    source = "lib/python/site-packages/module.py"
    for path, data in {
        "conda-meta/history": b"",
        "bin/python": b'#!/bin/sh\nexec sh "$@"\n',
        "bin/show": f"#!/bin/sh\necho {prefix}\n".encode(),
        "bin/script": f"#!{prefix}/bin/python\necho {prefix}\n".encode(),
        "lib/libx.so": b"\x7fELF\2\1\1\0" + os.fsencode(prefix) + b"/share/x\0" + bytes(300),
        "share/x": b"x",
        source: f"ROOT = {str(prefix)!r}\n".encode(),
    }.items():
        (prefix / path).parent.mkdir(parents=True, exist_ok=True)
        (prefix / path).write_bytes(data)
        (prefix / path).chmod(0o755 if path.startswith("bin/") else 0o644)
    py_compile.compile(str(prefix / source), doraise=True)
    (prefix / "share/absolute").symlink_to(prefix / "share/x")
    (prefix / "share/relative").symlink_to("x")
    os.link(prefix / "bin/show", prefix / "bin/show-too")
    placeholder = "/placehold" * 20
    text = f"#!/bin/sh\necho {placeholder}\n"
    (prefix / "bin/packaged").write_text(text.replace(placeholder, str(prefix)))
    (prefix / "bin/packaged").chmod(0o755)
    path = {
        "_path": "bin/packaged",
        "path_type": "hardlink",
        "sha256": hashlib.sha256(text.encode()).hexdigest(),
        "size_in_bytes": len(text),
        "prefix_placeholder": placeholder,
        "file_mode": "text",
    }
    record = {
        "name": "packaged",
        "version": "1",
        "build": "0",
        "build_number": 0,
        "subdir": "noarch",
        "depends": [],
        "files": ["bin/packaged"],
        "paths_data": {"paths_version": 1, "paths": [path]},
    }
    (prefix / "conda-meta/packaged-1-0.json").write_text(json.dumps(record))
    os.environ["ENVPACK_CACHE"] = str(BASE / "cache")
    for suffix in (".tar.gz", ".tar.zst"):
        command_line("pack", "-p", prefix, "-o", BASE / f"kinds{suffix}", "--bundle-version", "1")
    os.environ["ENVPACK_CACHE"] = ""


def signed() -> None:
    os.chdir(BASE)
    command_line("sign", "--new-key", "ci", "--no-password")
    bundles = sorted([*BASE.glob("demo-*.tar.*"), *BASE.glob("kinds.tar.*")])
    command_line("sign", *bundles, "--key", BASE / "ci.key")
    key = (BASE / "ci.pub").read_text().splitlines()[1]
    (BASE / "host/etc/envpack").mkdir(parents=True)
    (BASE / "host/etc/envpack/policy.toml").write_text(f'require = ["{key}"]\n')


def moved(folder: Path) -> None:
    """By ``mv``, without what is kept."""
    (folder / "x").rename(folder / "moved")


def main() -> None:
    output = Path(sys.argv[1]).absolute()
    BASE.mkdir()
    os.umask(0o022)
    os.environ.update(ENVPACK_CACHE="", ENVPACK_STATE=str(BASE / "state"), XDG_CONFIG_HOME=str(BASE / "none"))
    try:
        for suffix in (".tar.gz", ".tar.zst"):
            for version in "123":
                bundle(version, suffix)
        all_kinds()
        signed()
        twice(BASE / "x")
        twice(BASE / "y", "--store", BASE / "store")
        deploy(BASE / "kinds.tar.gz", BASE / "kinds")
        twice(BASE / "changed")
        (BASE / "changed/lib/version").write_text("mine")
        (BASE / "changed/lib/only-in-2").unlink()
        (BASE / "changed/lib/mine").write_text("mine")
        twice(BASE / "by-hand/x")
        moved(BASE / "by-hand")
        os.environ["ENVPACK_STATE"] = str(BASE / "state of those that crashed")
        demo = [BASE / f"demo-{version}.tar.gz" for version in "123"]
        crashed("first", lambda folder: None, lambda folder: ["deploy", demo[1], folder / "x", "--no-check"])
        for name, can_exchange in (("upgrade", True), ("upgrade-in-steps", False)):
            crashed(
                name,
                lambda folder: deploy(demo[0], folder / "x"),
                lambda folder: ["deploy", demo[1], folder / "x", "--no-check"],
                can_exchange,
            )
        for name, last in (("rollback", []), ("remove", []), ("move", ["moved"])):
            crashed(
                name,
                lambda folder: twice(folder / "x"),
                lambda folder, name=name, last=last: [name, folder / "x", *(folder / each for each in last)],
            )

        def unpacked(folder: Path) -> None:
            deploy(BASE / "kinds.tar.gz", folder / "x")
            moved(folder)

        crashed("rewrite", unpacked, lambda folder: ["unpack", folder / "moved"])
        shutil.rmtree(BASE / "state of those that crashed")
        shutil.rmtree(next(BASE.glob("prefix*")))
        (BASE / "made-in").write_text(str(BASE))
        for path in [BASE, *BASE.rglob("*")]:
            os.chown(path, 0, 0, follow_symlinks=False)
        packed = ["tar", "-C", str(BASE), "--sort=name", "--numeric-owner", "-cf", "-", "."]
        with output.open("wb") as file:
            tar = subprocess.Popen(packed, stdout=subprocess.PIPE)
            subprocess.run(["gzip", "-9n"], stdin=tar.stdout, stdout=file, check=True)
            assert tar.wait() == 0
    finally:
        shutil.rmtree(BASE)


if __name__ == "__main__":
    main()
