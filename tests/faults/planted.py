"""Another user of a shared folder plants links, pipes, folders and files under every name that a command creates.

Each scenario runs once to record the names that it creates in the shared folder: with strace where that is
installed, with Python's audit events otherwise. Random names are those that a second run does not repeat. Each
other name is then planted by a second user before the command runs: nothing outside the folder may be touched,
nothing planted be emptied, and the command may neither wait nor fail with a bug.

``python tests/faults/planted.py`` tries them all (``make test-planted``); ``--sample N`` tries N of them.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import random
import re
import shlex
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    tests = Path(__file__).resolve().parent.parent
    sys.path[:1] = [str(tests), str(tests.parent / "src")]

from envpack.cli.app import COMMANDS, main
from envpack.cli.console import Console
from envpack.runtime.__main__ import main as runtime_main
from faults.planted_scenarios import SCENARIOS, Scenario
from support.advisories import advisory
from support.small_prefix import SmallPrefix

TEAM, VICTIM, ATTACKER = 12100, 12001, 12002
"""A group, and two users in it; the system need not know them."""

LIMIT = 60
"""Seconds after which a command is taken to hang."""

BUG = 1


# --- what is planted ---


def link_to_file(place: Path, outside: Path) -> None:
    place.symlink_to(outside / "file")


def link_to_folder(place: Path, outside: Path) -> None:
    place.symlink_to(outside / "folder")


def link_to_nothing(place: Path, outside: Path) -> None:
    place.symlink_to(outside / "new")


def fifo(place: Path, _: Path) -> None:
    os.mkfifo(place, 0o666)


def folder(place: Path, _: Path) -> None:
    place.mkdir()
    place.chmod(0o777)
    (place / "theirs").write_text("theirs")


def file(place: Path, _: Path) -> None:
    place.write_text("theirs")
    place.chmod(0o666)


PLANTS: list[Callable[[Path, Path], None]] = [link_to_file, link_to_folder, link_to_nothing, fifo, folder, file]


# --- processes of other users ---


def run_as(uid: int, work: Callable[[], int], said: Path) -> int:
    """Run ``work`` as a user in a new process; return its exit code, or a signal's number, negative."""
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        code = BUG
        try:
            out = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            for fd, target in ((os.open(os.devnull, os.O_RDONLY), 0), (out, 1), (out, 2)):
                os.dup2(fd, target)
            os.umask(0o002)
            if uid:
                os.setgroups([TEAM])
                os.setresgid(uid, uid, uid)
                os.setresuid(uid, uid, uid)
            signal.alarm(LIMIT)
            code = work()
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)


class Stage:
    """A sandbox for one victim: ``run`` has the shared folder, the victim's home, and what must not be touched."""

    def __init__(self, base: Path, given: Path, victim: int) -> None:
        self.base, self.given, self.victim = base, given, victim
        self.place, self.saved = base / "run", base / "saved"
        self.shared, self.home, self.outside = (self.place / name for name in ("shared", "home", "outside"))
        self.said = base / "said"
        base.mkdir(mode=0o755)

    def prepare(self, scenario: Scenario) -> None:
        """Make the state before the planting, and save it."""
        for path in (self.place, self.saved):
            shutil.rmtree(path, ignore_errors=True)
        for path in (self.shared, self.home, self.home / "tmp", self.outside, self.outside / "folder"):
            path.mkdir(parents=True)
            os.chown(path, self.victim, TEAM if path == self.shared else self.victim)
        os.chown(self.shared, 0, TEAM)
        self.shared.chmod(0o2775)
        for path in (self.outside / "file", self.outside / "folder/file"):
            path.write_text("precious")
            os.chown(path, self.victim, self.victim)
        for command in scenario.setup:
            if command == ["copy"]:
                shutil.copy(self.given / "1.tar.gz", self.shared / "b.tar.gz")
            elif command[0] == "mv":
                (self.shared / command[1]).rename(self.shared / command[2])
            else:
                code = self.command(command, scenario.variables)
                if code:
                    raise SystemExit(f"{command} failed: {code}: {self.said.read_text(errors='replace')}")
        subprocess.run(["cp", "-a", self.place, self.saved], check=True)

    def reset(self) -> None:
        shutil.rmtree(self.place)
        subprocess.run(["cp", "-a", self.saved, self.place], check=True)

    def words(self, command: list[str]) -> list[str]:
        return [word.format(input=self.given, shared=self.shared, home=self.home) for word in command]

    def environ(self, variables: dict[str, str]) -> dict[str, str]:
        own = {"HOME": "{home}", "TMPDIR": "{home}/tmp", "ENVPACK_CACHE": "", "ENVPACK_STATE": "{home}/state"}
        values = dict(zip({**own, **variables}, self.words([*{**own, **variables}.values()]), strict=True))
        return {"PATH": os.environ["PATH"], "LANG": "C.UTF-8", "PYTHONPATH": ":".join(sys.path), **values}

    def command(
        self,
        command: list[str],
        variables: dict[str, str],
        before: Callable[[], object] | None = None,
        program: str = "envpack",
    ) -> int:
        """Run a command as the victim; ``before`` is called in its process first."""

        def work() -> int:
            os.chdir(self.home)
            environ = self.environ(variables)
            os.environ.clear()
            os.environ.update(environ)
            tempfile.tempdir = None
            if before is not None:
                before()
            words = self.words(command)
            if program == "shell":
                os.execvpe(words[0], words, environ)
            return runtime_main(words) if program == "runtime" else main(words, Console.of_process())

        return run_as(self.victim, work, self.said)

    # --- names ---

    def names(self, scenario: Scenario) -> list[str]:
        """Return the names that a command creates in the shared folder each time, relative to it."""
        found = []
        for _ in range(2):
            self.reset()
            before = {path.name for path in self.shared.iterdir()}
            after = self.traced(scenario) | {path.name for path in self.shared.iterdir()}
            found.append(after - before)
        return sorted((found[0] & found[1]).union(scenario.also))

    def traced(self, scenario: Scenario) -> set[str]:
        log = self.base / "log"
        log.unlink(missing_ok=True)
        log.touch(mode=0o666)
        log.chmod(0o666)
        code = self.strace(scenario, log)
        if code is not None:
            paths = strace_paths(log.read_text(errors="replace"))
        else:
            code = self.command(scenario.command, scenario.variables, lambda: audit(log), scenario.program)
            paths = set(log.read_text(errors="replace").splitlines())
        if code != scenario.code:
            said = self.said.read_text(errors="replace")
            raise SystemExit(
                f"{scenario.name}: exit code {code} with nothing planted, not {scenario.code}: {said}"
            )
        start = f"{self.shared}/"
        return {os.path.normpath(path[len(start) :]) for path in paths if path.startswith(start)} - {"."}

    def strace(self, scenario: Scenario, log: Path) -> int | None:
        """Run the command below strace; return its exit code, None where that was not possible."""
        tracer = shutil.which("strace")
        if tracer is None:
            return None
        calls = (
            "creat,open,openat,mkdir,mkdirat,link,linkat,symlink,symlinkat,rename,renameat,renameat2,mknod,mknodat"
        )
        options = [
            tracer,
            "-f",
            "--seccomp-bpf",
            "-y",
            "-qq",
            "-s",
            "4096",
            "-e",
            f"trace={calls}",
            "-o",
            str(log),
        ]
        runs = {"envpack": [sys.executable, "-m", "envpack"], "runtime": [sys.executable, "-m", "envpack.runtime"]}
        argv = [*options, *runs.get(scenario.program, []), *self.words(scenario.command)]

        def work() -> int:
            os.chdir(self.home)
            os.execve(tracer, argv, self.environ(scenario.variables))

        code = run_as(self.victim, work, self.said)
        return code if "openat(" in log.read_text(errors="replace") else None

    # --- one try ---

    def plant(self, name: str, how: Callable[[Path, Path], None]) -> bool:
        """Let the other user plant something; return whether that was possible."""
        place = self.shared / name

        def work() -> int:
            for parent in reversed([*place.relative_to(self.shared).parents][:-1]):
                if not (self.shared / parent).exists():
                    (self.shared / parent).mkdir()
                    (self.shared / parent).chmod(0o2777)
            how(place, self.outside)
            return 0

        return run_as(ATTACKER, work, self.said) == 0

    def attempt(self, scenario: Scenario, name: str, how: Callable[[Path, Path], None]) -> list[str] | None:
        """Plant something and run the command; return what went wrong, None where nothing could be planted."""
        self.reset()
        if not self.plant(name, how):
            return None
        planted = self.shared / name
        before, theirs = look(self.outside), look(planted) if how is folder else {}
        code = self.command(scenario.command, scenario.variables, program=scenario.program)
        said = self.said.read_text(errors="replace")
        wrong = []
        if look(self.outside) != before:
            wrong.append("something outside was touched")
        if how is folder and not {"theirs"} <= {path.name for path in self.shared.rglob("theirs")}:
            wrong.append(f"a folder of another user was emptied: {sorted(theirs)}")
        if code == -signal.SIGALRM:
            wrong.append("it hangs")
        elif (code == BUG and scenario.program != "shell") or code < 0 or "Traceback" in said:
            wrong.append(f"exit code {code}: {said[-1000:]}")
        return wrong


def audit(log: Path) -> None:
    """Write the paths of all files that this process creates to ``log``, from Python's audit events."""
    out = os.open(log, os.O_WRONLY | os.O_APPEND)

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        count = {"os.mkdir": 1, "os.rename": 2, "os.link": 2, "os.symlink": 2}.get(event, 0)
        if event == "open" and isinstance(arguments[2], int) and arguments[2] & os.O_CREAT:
            count = 1
        for path in arguments[:count]:
            if isinstance(path, (str, bytes, os.PathLike)):
                os.write(out, os.fsencode(Path.cwd() / os.fsdecode(path)) + b"\n")

    sys.addaudithook(hook)


_ARGUMENT = re.compile(r'(?:(?:AT_FDCWD|\d+)<([^>]*)>, )?"((?:[^"\\]|\\.)*)"')


def strace_paths(log: str) -> set[str]:
    """Return the paths in strace's output for calls that create a name."""
    paths = set()
    for line in log.splitlines():
        call = line.split(" ", 1)[-1].strip()
        if call.startswith(("open(", "openat(")) and "O_CREAT" not in call:
            continue
        for at, path in _ARGUMENT.findall(call):
            paths.add(os.path.normpath(Path(at or "/", path)))
    return paths


def look(root: Path) -> dict[str, tuple[object, ...]]:
    """Return what is below a path: types, modes, owners, inodes, times and contents."""
    found: dict[str, tuple[object, ...]] = {}
    for path in (root, *sorted(root.rglob("*"))):
        status = path.lstat()
        content = path.read_bytes() if stat.S_ISREG(status.st_mode) else b""
        facts = (status.st_mode, status.st_uid, status.st_gid, status.st_ino, status.st_mtime_ns, content)
        found[str(path.relative_to(root))] = facts
    return found


def make_input(given: Path) -> None:
    """Make the environments, bundles, key and channel that the scenarios read."""
    for version in "12":
        made = SmallPrefix(given / ("env" if version == "1" else "env2"))
        made.write("lib/data", version * 1000)
        made.write("bin/tool", f"#!{made.path}/bin/python\n", 0o755)
        made.pack(given / f"{version}.tar.gz", name="demo", version=version, commands={"serve": "true"})
    make_editable(given / "editable", given / "project")
    for platform in ("linux-64", "linux-aarch64", "noarch"):
        (given / "channel" / platform).mkdir(parents=True)
        (given / "channel" / platform / "repodata.json").write_text('{"packages": {}, "packages.conda": {}}')
    (given / "spec.yml").write_text("name: demo\nchannels: [c]\ndependencies: []\nenvpack:\n  version: '1'\n")
    for argv in (
        ["pack", "-p", str(given / "env"), "-o", str(given / "o.zip"), "-q", "--no-cache"],
        ["sign", "--new-key", str(given / "k"), "--no-password", "-q"],
    ):
        if main(argv, Console.of_process()):
            raise SystemExit(f"'envpack {' '.join(argv)}' failed")
    (given / "k.key").chmod(0o644)
    (given / "x.json").write_text(json.dumps(advisory("X")))
    subprocess.run(["chmod", "-R", "a+rX", given], check=True)


BACKEND = """
import zipfile
FILES = {
    "mine.py": "",
    "mine-1.0.dist-info/METADATA": "Metadata-Version: 2.1\\nName: mine\\nVersion: 1.0\\n",
    "mine-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n",
    "mine-1.0.dist-info/RECORD": "",
}
def build_wheel(folder, config_settings=None, metadata_directory=None):
    with zipfile.ZipFile(f"{folder}/mine-1.0-py3-none-any.whl", "w") as wheel:
        for name, text in FILES.items():
            wheel.writestr(name, text)
    return "mine-1.0-py3-none-any.whl"
"""
"""A build backend that needs no other package."""


def make_editable(prefix: Path, project: Path) -> None:
    """Make an environment with an editable install, whose wheel can be built without a network."""
    made = SmallPrefix(prefix)
    minor = f"{sys.version_info.major}.{sys.version_info.minor}"
    made.write(f"bin/python{minor}", f'#!/bin/sh\nexec {shlex.quote(sys.executable)} "$@"\n', 0o755)
    made.link("bin/python", f"python{minor}")
    made.write(f"lib/python{minor}/site-packages/mine.pth", f"{project}\n")
    project.mkdir()
    backend = '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
    (project / "pyproject.toml").write_text(f'{backend}[project]\nname = "mine"\nversion = "1.0"\n')
    (project / "backend.py").write_text(BACKEND)
    (project / "mine.py").write_text("")


def why_not(victim: int) -> str:
    """Return why nothing can be tried as this victim, "" where it can."""
    if os.geteuid() != 0:
        return "only root can become two other users"
    if victim:
        script = "import envpack.cli.app"
        environ = {**os.environ, "PYTHONPATH": ":".join(sys.path)}
        with tempfile.TemporaryDirectory() as folder:
            code = run_as(
                victim,
                lambda: os.execve(sys.executable, [sys.executable, "-c", script], environ),
                Path(folder) / "said",
            )
        if code:
            return "other users can't read this checkout or its Python"
    return ""


def try_all() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sample", type=int, default=0, help="try only so many, spread over all scenarios")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="try only the scenarios whose names start with this")
    parser.add_argument("--victims", nargs="*", default=["user", "root"])
    options = parser.parse_args()
    for name in COMMANDS:  # once, and not in every process that is forked
        importlib.import_module(f"envpack.cli.commands.{name}")
    tried, violations, skipped = 0, 0, []
    with tempfile.TemporaryDirectory(prefix="planted-") as name:
        base = Path(name)
        base.chmod(0o755)
        if why_not(0):
            print(f"skipped: {why_not(0)}")
            return 0
        make_input(base / "input")
        for victim in options.victims:
            uid = VICTIM if victim == "user" else 0
            if why_not(uid):
                skipped.append(f"{victim}: {why_not(uid)}")
                continue
            stage = Stage(base / victim, base / "input", uid)
            chosen = [each for each in SCENARIOS if each.name.startswith(options.only)]
            if options.sample:
                chosen = random.Random(options.seed).sample(chosen, min(len(chosen), options.sample))
            for scenario in chosen:
                stage.prepare(scenario)
                names = stage.names(scenario)
                points = [(name, how) for name in names for how in PLANTS]
                if options.sample:
                    points = random.Random(options.seed).sample(points, min(len(points), 3))
                wrong = 0
                count = 0
                for name, how in points:
                    problems = stage.attempt(scenario, name, how)
                    count += problems is not None
                    for problem in problems or ():
                        wrong += 1
                        print(f"WRONG: {victim}, {scenario.name}: {how.__name__} at {name}: {problem}", flush=True)
                print(f"{victim}, {scenario.name}: {len(names)} names, {count} tried, {wrong} wrong", flush=True)
                tried += count
                violations += wrong
    for reason in skipped:
        print(f"skipped: {reason}")
    print(f"{tried} tried, {violations} violations")
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(try_all())
