"""The places that commands are tried in, and what is in them, found without envpack."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from envpack.runtime.fs.temporary import is_temporary
from faults import samples
from faults.children import Ended, run

ABSENT, EMPTY = "absent", "empty folder"
ENVIRON = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "LC_ALL": "C.UTF-8"}


@dataclass
class Stage:
    """A worker's folders: ``root`` for all that commands change, with ``place/x``, ``place/y``, ``store`` and
    ``state`` in it, ``other``, the same on another filesystem, for moves there, and ``bundles``, ready made."""

    folder: Path
    bundles: Path
    elsewhere: Path | None = None
    _known: dict[tuple[str, str], samples.Tree] = field(default_factory=dict)
    _segments: dict[str, samples.Tree] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.root, self.scratch, self.saved = (self.folder / name for name in ("root", "scratch", "saved"))
        self.place, self.store, self.state = (self.root / name for name in ("place", "store", "state"))
        self.scratch.mkdir(parents=True)
        self.saved.mkdir()
        self.x, self.y, self.z = (self.place / name for name in "xyz")
        self.far = (self.elsewhere or self.root) / "far/y"
        self.roots = [self.root] + ([self.elsewhere] if self.elsewhere else [])

    # --- commands ---

    def run(self, argv: list[str], variables: Mapping[str, str] | None = None) -> Ended:
        fixed = {**ENVIRON, "ENVPACK_STATE": str(self.state), "XDG_CACHE_HOME": str(self.root / "cache")}
        filled = [
            word.format(
                x=self.x,
                y=self.y,
                z=self.z,
                far=self.far,
                store=self.store,
                bundles=self.bundles,
                place=self.place,
            )
            for word in argv
        ]
        return run(filled, self.roots, self.scratch, {**fixed, **(variables or {})})

    def activate(self, place: Path) -> str:
        """Return what is wrong when it is activated in a real shell and its tool is run; "" for nothing."""
        script = '. "$1/bin/activate" && command -v tool && tool'
        done = subprocess.run(
            ["/bin/sh", "-c", script, "sh", place],
            env={**ENVIRON, "ENVPACK_SKIP_CHECK": "1", "HOME": "/nonexistent"},
            capture_output=True,
            text=True,
        )
        wanted = f"{place}/bin/tool\ntool {place} "
        return "" if done.returncode == 0 and done.stdout.startswith(wanted) else done.stdout + done.stderr

    # --- what is there, as a whole ---

    def clear(self) -> None:
        for root in self.roots:
            shutil.rmtree(root, ignore_errors=True)
            root.mkdir(parents=True)
        self.place.mkdir()
        self.far.parent.mkdir(exist_ok=True)

    def save(self, name: str) -> None:
        folder = self.saved / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        for number, root in enumerate(self.roots):
            _copy(root, folder / str(number))

    def restore(self, name: str) -> None:
        for number, root in enumerate(self.roots):
            shutil.rmtree(root)
            _copy(self.saved / name / str(number), root)

    # --- what stands in a place ---

    def wanted(self, version: str, place: Path) -> samples.Tree:
        """A version at a place; ``place`` may have ``.unpacked`` for what tar leaves there."""
        key = (version, str(place))
        if key not in self._known:
            fresh = self.scratch / "unpacked"
            shutil.rmtree(fresh, ignore_errors=True)
            self._known[key] = samples.as_deployed(self.bundles, version, place, fresh)
            if (version, "") not in self._known:
                self._known[version, ""] = samples.look(fresh)
        return self._known[key]

    def standing(self, path: Path, place: Path | None = None) -> str:
        """What stands at ``path``, written for ``place``: `ABSENT`, `EMPTY`, a version that is whole, or what is
        wrong."""
        if not os.path.lexists(path):
            return ABSENT
        found = samples.look(path)
        if not found:
            return EMPTY
        wrong = []
        for version in samples.VERSIONS:
            different = samples.differences(found, self.wanted(version, place or path))
            if not different:
                return self._recorded(path, version)
            wrong.append((len(different), f"not {version}: {', '.join(different[:6])}"))
        return min(wrong)[1]

    def _recorded(self, path: Path, version: str) -> str:
        record = path / ".envpack/deployment.json"
        if not record.exists():
            return version
        try:
            document = json.loads(record.read_text())
            right = document["version"] == version and type(document["generation"]) is int
        except (ValueError, KeyError):
            right = False
        return version if right else f"{version} with a record that is not its own: {record.read_text()[:300]}"

    def is_mixed(self, path: Path, place: Path, version: str, others: list[samples.Tree]) -> str:
        """ "" where every file is that version's for ``place``, or as one of ``others`` has it; else what is not.

        A file that is not in one of ``others`` may be missing.
        """
        found = {name: what for name, what in samples.look(path).items() if name != ".envpack/prefix"}
        known = [self.wanted(version, place), *others]
        for name, what in found.items():
            if not any(name in tree and samples.same(name, what, tree[name]) for tree in known):
                return f"{name} is neither old nor new"
        for name in known[0]:
            if name not in found and name != ".envpack/prefix" and all(name in tree for tree in others):
                return f"{name} is missing"
        return ""

    def unpacked(self, version: str) -> samples.Tree:
        self.wanted(version, self.x)
        return self._known[version, ""]

    # --- what stands beside ---

    def side(self, place: Path) -> Path:
        return place.with_name(f".{place.name}.envpack")

    def beside(self, place: Path) -> list[str]:
        side = self.side(place)
        return sorted(path.name for path in side.iterdir()) if side.is_dir() else []

    def survivors(self, places: list[Path]) -> set[str]:
        """The versions that are whole, in places or beside, for any of them; what is rubbish by name apart."""
        found = set()
        for place in places:
            for path in (place, *(self.side(place) / name for name in self.beside(place))):
                if path.is_dir() and not path.name.startswith(("new-", "trash-")):
                    found |= {self.standing(path, each) for each in places}
        return found & set(samples.VERSIONS)

    def broken_keeps(self, places: list[Path]) -> list[tuple[Path, str]]:
        """Kept ones that are not whole, and how."""
        wrong = []
        for place in places:
            for name in self.beside(place):
                if name.isdecimal():
                    seen = [self.standing(self.side(place) / name, each) for each in places]
                    if not set(seen) & set(samples.VERSIONS):
                        wrong.append((self.side(place) / name, seen[0]))
        return wrong

    def strangers(self, places: list[Path]) -> list[str]:
        """Return the visible files beside the deployments that do not belong to them."""
        known = {str(path) for place in places for path in (place, self.side(place))}
        folders = {place.parent for place in places}
        return [
            str(path)
            for folder in folders
            if folder.is_dir()
            for path in folder.iterdir()
            if str(path) not in known
        ]

    def debris(self, places: list[Path], *, store_too: bool = False, unfinished: bool = False) -> list[str]:
        """What a command that came to its end leaves nowhere: folders on their way, temporary files, locks held.

        ``unfinished``: trees are to be finished in place, and say so.
        """
        wrong = []
        for place in places:
            names = [name for name in self.beside(place) if not name.isdecimal()]
            kept = len(self.beside(place)) > len(names)
            if names != (["lock"] if kept else []):
                wrong += [f"{self.side(place)}/{name} is left" for name in names] or [f"{place} has no lock"]
            elif not names and self.side(place).exists() and not kept:
                wrong.append(f"{self.side(place)} is empty")
        looked_at = [str(path) for place in places for path in (place, self.side(place))]
        looked_at += [str(self.state), str(self.store)]
        for root in self.roots:
            for folder, folders, files in os.walk(root):
                if folder.endswith(".envpack"):  # incomplete files in it are reported already
                    folders[:] = [name for name in folders if name.isdecimal()]
                if not store_too and folder == str(self.store / "1/work"):
                    folders.clear()
                    continue
                for name in files:
                    path = Path(folder, name)
                    if not any(folder.startswith(part) for part in looked_at):
                        continue  # a command there sees to it
                    if folder == str(self.state):
                        continue  # 'envpack list' sees to it
                    if folder == str(self.store / "1/roots") and not store_too:
                        continue  # gc does
                    on_its_way = name.endswith((".new", ".envpack-new")) or name == "settling"
                    in_kept = any(folder.startswith(str(self.side(place))) for place in places)
                    if (on_its_way and not unfinished) or (is_temporary(name) and not in_kept):
                        wrong.append(f"{path} is left")
                    if name == "lock" or name.endswith(".lock"):
                        if folder.endswith("/work"):
                            wrong.append(f"{path} is left")
                        if _is_locked(path):
                            wrong.append(f"{path} is locked still")
                wrong += [f"{folder}/{name} is left" for name in folders if folder.endswith("/1/work")]
        return wrong

    def listed(self) -> set[str]:
        """The places in the list of deployments."""
        if not self.state.is_dir():
            return set()
        return {path.read_text().rstrip("\n") for path in self.state.iterdir() if not path.name.startswith(".")}

    # --- the store ---

    def segments(self) -> list[Path]:
        return sorted((self.store / "1/segments").glob("*/*"))

    def learn_segments(self) -> None:
        """Record the content of the store's segments as the right one."""
        self._segments.update({path.name: samples.look(path) for path in self.segments()})

    def broken_segments(self) -> list[str]:
        wrong = []
        for path in self.segments():
            if path.name not in self._segments:
                wrong.append(f"{path} is no segment known")
            elif samples.look(path) != self._segments[path.name]:
                wrong.append(f"{path} is not whole")
            wrong += [f"{file} can be written" for file in path.iterdir() if file.stat().st_mode & 0o222]
        return wrong


def _copy(source: Path, target: Path) -> None:
    subprocess.run(["cp", "-a", source, target], check=True)


def _is_locked(path: Path) -> bool:
    with path.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False
